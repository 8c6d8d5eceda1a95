// Builds a vulnerability database with grype's own builder, from provider workspaces:
// builder DIRECTORY WORKSPACE...
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anchore/grype/grype/db"
	"github.com/anchore/grype/grype/db/provider"
)

func build(directory string, workspaces []string) error {
	var states provider.States
	for _, workspace := range workspaces {
		state, err := provider.ReadState(filepath.Join(workspace, "metadata.json"))
		if err != nil {
			return err
		}
		if err := state.Verify(); err != nil {
			return err
		}
		states = append(states, *state)
	}
	return db.Build(db.BuildConfig{
		SchemaVersion:      6,
		Directory:          directory,
		States:             states,
		Timestamp:          time.Now(),
		SQLiteCacheSizeKiB: 64 * 1024,
	})
}

func main() {
	if err := build(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
