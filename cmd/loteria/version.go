package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const versionHelp = `Print what this program was built from: the module's version, the commit and its
time, whether the files differed from the commit, and the release of Go.

"unknown" stands for what the build did not record. "go build" in a clone records
everything; the image is built without a clone and doesn't know the commit.`

// errNoBuildInfo says that the program has no information about its build.
var errNoBuildInfo = errors.New("no build information: build with Go's modules on")

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print which build this is",
		Long:    versionHelp,
		Example: "  loteria version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errNoBuildInfo
			}
			return printVersion(cmd.OutOrStdout(), info)
		},
	}
}

// unknown stands for what a build did not record.
const unknown = "unknown"

// printVersion prints what a program was built from, one fact per line.
func printVersion(w io.Writer, info *debug.BuildInfo) error {
	version, revision, time, modified := unknown, unknown, unknown, unknown
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			revision = setting.Value
		case "vcs.time":
			time = setting.Value
		case "vcs.modified":
			modified = setting.Value
		}
	}
	_, err := fmt.Fprintf(w, `version   %s
revision  %s
time      %s
modified  %s
go        %s %s/%s
`, version, revision, time, modified, info.GoVersion, runtime.GOOS, runtime.GOARCH)
	return err
}
