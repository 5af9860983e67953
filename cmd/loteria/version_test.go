package main

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestPrintVersion(t *testing.T) {
	platform := " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"
	for _, test := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{
			name: "of a release, in a clone with changes",
			info: debug.BuildInfo{
				GoVersion: "go1.26.8",
				Main:      debug.Module{Path: "loteria", Version: "v1.2.3+dirty"},
				Settings: []debug.BuildSetting{
					{Key: "-buildmode", Value: "exe"},
					{Key: "vcs", Value: "git"},
					{Key: "vcs.revision", Value: "3378f740fb6fdc1e8720f479e55f6e58ab87629f"},
					{Key: "vcs.time", Value: "2026-11-23T22:42:25Z"},
					{Key: "vcs.modified", Value: "true"},
				},
			},
			want: `version   v1.2.3+dirty
revision  3378f740fb6fdc1e8720f479e55f6e58ab87629f
time      2026-11-23T22:42:25Z
modified  true
go        go1.26.8` + platform,
		},
		{
			name: "without version control",
			info: debug.BuildInfo{
				GoVersion: "go1.26.8",
				Main:      debug.Module{Path: "loteria", Version: "(devel)"},
			},
			want: `version   (devel)
revision  unknown
time      unknown
modified  unknown
go        go1.26.8` + platform,
		},
		{
			name: "of a test",
			info: debug.BuildInfo{GoVersion: "go1.26.8"},
			want: `version   unknown
revision  unknown
time      unknown
modified  unknown
go        go1.26.8` + platform,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got strings.Builder
			if err := printVersion(&got, &test.info); err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want {
				t.Errorf("got\n%swant\n%s", got.String(), test.want)
			}
		})
	}
}

var errTestWrite = errors.New("nobody reads")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errTestWrite }

// printVersion returns the writer's error.
func TestPrintVersionFails(t *testing.T) {
	if err := printVersion(failingWriter{}, &debug.BuildInfo{}); !errors.Is(err, errTestWrite) {
		t.Errorf("error %v", err)
	}
}
