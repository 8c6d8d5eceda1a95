// A build step that says what it can reach, leaves what others could read, or takes all that there is.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// What an unlinked file holds is on the disk as long as it is open; the collector would close it.
var open []*os.File

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
	case "dial": // dial FILE WORD ADDRESS…: behind which of them somebody says the word; one each 10 ms
		answers, answer := []string{}, make(chan string)
		for number, address := range rest[2:] {
			go func(number int, address string) {
				time.Sleep(time.Duration(number) * 10 * time.Millisecond)
				answer <- dial(address, rest[1])
			}(number, address)
		}
		for range rest[2:] {
			if address := <-answer; address != "" {
				answers = append(answers, address)
			}
		}
		os.WriteFile(rest[0], []byte(strings.Join(answers, " ")), 0o644)
	case "listen": // listen ADDRESS WORD: say the word to whoever connects
		listener, err := net.Listen("tcp", rest[0])
		if err != nil {
			panic(err)
		}
		for {
			connection, err := listener.Accept()
			if err == nil {
				connection.Write([]byte(rest[1]))
				connection.Close()
			}
		}
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
	case "sparse": // sparse FILE: one of 200 MiB that takes no room
		file, _ := os.Create(rest[0])
		file.Truncate(200 << 20)
	case "grow": // one file without end
		file, _ := os.Create(rest[0])
		for {
			if _, err := file.Write(make([]byte, 16<<20)); err != nil {
				fmt.Println(err)
				os.Exit(4)
			}
		}
	case "paths": // paths DIRECTORY: 60,000 empty files with paths of more than 700 bytes
		deep := rest[0] + strings.Repeat("/"+strings.Repeat("d", 230), 3)
		for number := 0; number < 60000; number++ {
			directory := fmt.Sprintf("%s/%d", deep, number/1000)
			if number%1000 == 0 {
				os.MkdirAll(directory, 0o755)
			}
			os.WriteFile(fmt.Sprintf("%s/%d", directory, number), nil, 0o644)
		}
	case "unlink": // unlink DIRECTORY: fill it with files that have no name any more
		for number := 0; ; number++ {
			file, err := os.Create(fmt.Sprintf("%s/%d", rest[0], number))
			if err == nil {
				os.Remove(file.Name())
				_, err = file.Write(make([]byte, 64<<20))
				open = append(open, file)
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(4)
			}
		}
	case "chroot": // chroot DIRECTORY COMMAND…: its first process has another root, a second one does the work
		work := exec.Command("/step", rest[1:]...)
		os.Mkdir(rest[0], 0o755)
		work.Start()
		if err := syscall.Chroot(rest[0]); err != nil {
			fmt.Println(err)
			os.Exit(4)
		}
		work.Wait()
	case "yell": // lines without end
		for {
			fmt.Println(strings.Repeat("all is well ", 100))
		}
	case "spin":
		for number := 0; ; number++ {
		}
	}
}

// dial returns the address if somebody says the word there, and nothing otherwise.
func dial(address, word string) string {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return ""
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(2 * time.Second))
	said := make([]byte, len(word))
	if _, err := io.ReadFull(connection, said); err != nil || string(said) != word {
		return ""
	}
	return address
}
