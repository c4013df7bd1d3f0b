// Package docs has the tests of what the documents say of the code.
//
// What comes in: the Markdown files of the repository. What goes out: nothing;
// there is no code here but tests. They refuse a document that names a test, a
// file or a make target which is not there, Go in a document or a comment that no
// Example function has, and a scenario that docs/sync.md does not know. That the
// README can be followed is shown by package process.
package docs
