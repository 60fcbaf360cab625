package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the released version; a build from a checkout adds its commit.
const version = "0.1.0"

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (v versionCmd) Run(p *program) error {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if v.JSON {
		return json.NewEncoder(p.stdout).Encode(map[string]string{"version": version, "commit": commit, "go": runtime.Version()})
	}
	fmt.Fprintf(p.stdout, "cairn %s %s %s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
