package main

import (
	"os"
	"strings"
	"testing"
)

// A directory has a name that lasts, and no other has the same.
func TestInstanceOfADirectory(t *testing.T) {
	data, other := t.TempDir(), t.TempDir()
	first, err := readOrMakeInstance(data)
	if err != nil || !instanceForm.MatchString(first) {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := readOrMakeInstance(data); err != nil || again != first {
		t.Errorf("then %q, %v", again, err)
	}
	if second, err := readOrMakeInstance(other); err != nil || second == first {
		t.Errorf("another directory: %q, %v", second, err)
	}
	for _, wrong := range []string{"", "two words", strings.Repeat("x", 65)} {
		if err := os.WriteFile(instanceFile(data), []byte(wrong+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name, err := readOrMakeInstance(data); err == nil || !strings.Contains(err.Error(), instanceFile(data)) {
			t.Errorf("%q: %q, %v", wrong, name, err)
		}
	}
}

func TestCommandsNeedKafka(t *testing.T) {
	s := temporarySettings(t.TempDir())
	s.noCommands = true
	if err := s.validate(); exitCode(err) != exitUsage {
		t.Errorf("--no-commands with the embedded log: %v", err)
	}
}
