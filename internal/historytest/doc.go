// Package historytest runs random histories: many of them, each made of steps from
// a seed of its own, until one fails.
//
// What comes in: how a history of a seed is run, how a failure is told, and what has
// to happen in many of them. What goes out: the first failure (Run), what happened
// (Coverage), and the shortest history that still fails (Shrink).
//
// What it promises: a run of histories in which something listed never happened
// fails, for it proves too little. It knows nothing of what a history is.
package historytest
