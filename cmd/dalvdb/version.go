package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/dalvdb/dalvdb/events"
)

// version is set by the build where there is no git (see the Makefile).
var version string

// buildInfo is what a binary knows of itself.
type buildInfo struct {
	Version     string `json:"version"`
	Commit      string `json:"commit,omitempty"`
	Go          string `json:"go"`
	Platform    string `json:"platform"`
	FoldVersion uint32 `json:"foldVersion"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of this binary and the newest version of the fold that it
knows. A log whose fold version is higher needs a newer binary.`,
		Example: `  dalvdb version
  dalvdb version -o json`,
		Args: wantArgs(0),
		RunE: func(*cobra.Command, []string) error {
			b := readBuildInfo()
			if a.output == "json" {
				raw, err := json.Marshal(b)
				if err != nil {
					return err
				}
				return a.printLine(raw)
			}
			_, err := fmt.Fprintln(a.out, b.line())
			return err
		},
	}
}

func (b buildInfo) line() string {
	return fmt.Sprintf("dalvdb %s %s %s fold %d", b.Version, b.Go, b.Platform, b.FoldVersion)
}

func readBuildInfo() buildInfo {
	b := buildInfo{
		Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, FoldVersion: events.FoldVersion,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}
