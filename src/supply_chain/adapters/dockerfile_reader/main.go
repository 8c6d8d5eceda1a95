// Command dockerfile-reader reads Dockerfiles and ignore files with BuildKit's own code.
//
//	dockerfile-reader read    JSON request on stdin, JSON reading on stdout
//	dockerfile-reader ignore  length of the ignore file in decimal, a line feed, the ignore file, then paths
//	                          separated by NUL, on stdin; the paths that are left out, separated by NUL, on stdout
//
// It opens no file and no connection.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// version is set by the linker.
var version = "0.0.0"

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: dockerfile-reader read|ignore|version"))
	}
	var err error
	switch os.Args[1] {
	case "read":
		err = answer(os.Stdin, os.Stdout)
	case "ignore":
		err = ignore(context.Background(), os.Stdin, os.Stdout)
	case "version":
		fmt.Println(version)
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func answer(in io.Reader, out io.Writer) error {
	var input request
	content, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, &input); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(read(context.Background(), input))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
