// Command dockerfile-reader reads Dockerfiles and ignore files with BuildKit's own code.
//
//	dockerfile-reader read    JSON request on stdin, JSON reading on stdout
//	dockerfile-reader ignore  length of the ignore file in decimal, a line feed, the ignore file, then paths
//	                          separated by NUL, on stdin; the paths that are left out, separated by NUL, on stdout
//
// It opens no file and no connection. Reading has a limit of memory, beyond which Go's runtime ends it with status 2.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"syscall"
)

// memory is how many bytes reading a Dockerfile may take; one of 256 KiB takes less than half of it. The engine's
// BuildKit converts the same Dockerfile afterwards, without a limit.
const memory = 384 << 20

// version is set by the linker.
var version = "0.0.0"

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: dockerfile-reader read|ignore|version"))
	}
	var err error
	switch os.Args[1] {
	case "read":
		if err = limitMemory(memory); err == nil {
			err = answer(os.Stdin, os.Stdout)
		}
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

// limitMemory limits the data of this process (setrlimit(2), RLIMIT_DATA). The limit of the address space would not do:
// Go's runtime reserves far more addresses than it uses memory.
func limitMemory(most uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &now); err != nil {
		return err
	}
	if now.Cur <= most {
		return nil
	}
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: most, Max: most})
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
