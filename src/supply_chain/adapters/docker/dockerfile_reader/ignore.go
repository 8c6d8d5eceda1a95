package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// ignore applies an ignore file as BuildKit's client does when it sends a context: by fsutil's own filter.
// The directories above a path are implied.
func ignore(ctx context.Context, in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	head, err := reader.ReadString('\n')
	if err != nil {
		return err
	}
	length, err := strconv.Atoi(strings.TrimSpace(head))
	if err != nil || length < 0 {
		return fmt.Errorf("%q is no length", head)
	}
	rules := make([]byte, length)
	if _, err := io.ReadFull(reader, rules); err != nil {
		return err
	}
	rest, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	paths := strings.FieldsFunc(string(rest), func(r rune) bool { return r == 0 })
	patterns, err := ignorefile.ReadAll(bytes.NewReader(rules))
	if err != nil {
		return err
	}
	sent := map[string]bool{}
	filtered, err := fsutil.NewFilterFS(listing(paths), &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		return err
	}
	if err := filtered.Walk(ctx, "/", func(path string, _ gofs.DirEntry, err error) error {
		sent[path] = true
		return err
	}); err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	for _, path := range paths {
		if !sent[path] {
			buffered.WriteString(path)
			buffered.WriteByte(0)
		}
	}
	return buffered.Flush()
}

type listing []string

func (l listing) Open(path string) (io.ReadCloser, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
}

// Walk visits the paths as filepath.WalkDir does: a directory before what is in it, siblings by name.
func (l listing) Walk(_ context.Context, _ string, visit gofs.WalkDirFunc) error {
	directories := map[string]bool{}
	for _, path := range l {
		if _, ok := directories[path]; !ok {
			directories[path] = false
		}
		for at := strings.LastIndexByte(path, '/'); at > 0; at = strings.LastIndexByte(path, '/') {
			path = path[:at]
			directories[path] = true
		}
	}
	names := make([]string, 0, len(directories))
	for name := range directories {
		names = append(names, name)
	}
	// A slash sorts before every other character, so that a directory's content follows it at once.
	sort.Slice(names, func(i, j int) bool {
		return strings.ReplaceAll(names[i], "/", "\x00") < strings.ReplaceAll(names[j], "/", "\x00")
	})
	skipped := ""
	for _, name := range names {
		if skipped != "" && strings.HasPrefix(name, skipped) {
			continue
		}
		skipped = ""
		err := visit(name, entry{name, directories[name]}, nil)
		if errors.Is(err, gofs.SkipDir) {
			skipped = name + "/" // of a file it would skip its siblings, but the filter skips directories alone
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type entry struct {
	path      string
	directory bool
}

func (e entry) Name() string                 { return e.path[strings.LastIndexByte(e.path, '/')+1:] }
func (e entry) IsDir() bool                  { return e.directory }
func (e entry) Type() gofs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (gofs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                  { return 0 }
func (e entry) ModTime() time.Time           { return time.Time{} }
func (e entry) Sys() any                     { return &types.Stat{Path: e.path} }
func (e entry) Mode() gofs.FileMode {
	if e.directory {
		return gofs.ModeDir | 0o755
	}
	return 0o644
}
