// A build step that says what it can reach, leaves what others could read, or takes all that there is.
package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	switch what, rest := os.Args[1], os.Args[2:]; what {
	case "random": // a number that no two runs of it have in common
		number := make([]byte, 16)
		rand.Read(number)
		os.WriteFile(rest[0], []byte(fmt.Sprintf("%x", number)), 0o644)
	case "leave": // leave FILE WORD COPY: add a word to the file, and copy what was there before
		before, _ := os.ReadFile(rest[0])
		os.WriteFile(rest[2], before, 0o644)
		os.WriteFile(rest[0], append(before, []byte(rest[1]+" ")...), 0o644)
	case "identity": // what a step sees of where it runs
		name, _ := os.Hostname()
		os.WriteFile(rest[0], []byte(fmt.Sprint(name, os.Environ())), 0o644)
	case "dial": // dial FILE ADDRESS…: which of them answer
		answers := []string{}
		for _, address := range rest[1:] {
			if connection, err := net.DialTimeout("tcp", address, 2*time.Second); err == nil {
				connection.Close()
				answers = append(answers, address)
			}
		}
		os.WriteFile(rest[0], []byte(strings.Join(answers, " ")), 0o644)
	case "fork": // processes without end
		for {
			exec.Command("/step", "wait").Start()
		}
	case "wait":
		time.Sleep(time.Hour)
	case "eat": // memory without end
		for hoard := [][]byte{}; ; {
			block := make([]byte, 16<<20)
			for i := range block {
				block[i] = 1
			}
			hoard = append(hoard, block)
		}
	case "fill": // fill DIRECTORY: files of 64 MiB without end
		for number := 0; ; number++ {
			if err := os.WriteFile(fmt.Sprintf("%s/%d", rest[0], number), make([]byte, 64<<20), 0o644); err != nil {
				fmt.Println(err)
				os.Exit(4)
			}
		}
	case "grow": // one file without end
		file, _ := os.Create(rest[0])
		for {
			if _, err := file.Write(make([]byte, 16<<20)); err != nil {
				fmt.Println(err)
				os.Exit(4)
			}
		}
	case "yell": // lines without end
		for {
			fmt.Println(strings.Repeat("all is well ", 100))
		}
	case "spin":
		for number := 0; ; number++ {
		}
	}
}
