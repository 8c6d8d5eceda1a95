// A service that behaves, or misbehaves in the ways its arguments name.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	faults := map[string]bool{}
	for _, argument := range os.Args[1:] {
		faults[argument] = true
	}
	address := ":8080"
	if faults["wrong-port"] {
		address = ":9090"
	}
	if faults["loopback"] {
		address = "127.0.0.1:8080"
	}
	if faults["crash"] {
		fmt.Println("configuration missing: cannot go on")
		time.Sleep(200 * time.Millisecond) // a busy engine may lose the last output of a container that ends at once
		os.Exit(3)
	}
	if faults["needs-setting"] && os.Getenv("SETTING") != "here" {
		fmt.Println("SETTING is missing: cannot go on")
		os.Exit(6)
	}
	if faults["status-0"] {
		fmt.Println("1 test passed")
		return
	}
	if faults["says-nothing"] {
		return
	}
	if faults["tests-nothing"] {
		fmt.Println("Ran 0 tests in 0.000s\n\nOK")
		return
	}
	if faults["floods"] {
		line := []byte(strings.Repeat("all is well ", 5461) + "\n")
		for written := 0; written < 1<<27; written += len(line) {
			os.Stdout.Write(line)
		}
		return
	}
	if faults["leaves-a-child"] {
		exec.Command("/subject", "hang").Start()
		return
	}
	if faults["forks"] {
		for {
			if exec.Command("/subject", "forks").Start() != nil {
				time.Sleep(time.Second)
			}
		}
	}
	if faults["hang"] {
		time.Sleep(time.Hour)
	}
	if faults["logs-secrets"] {
		fmt.Printf("connecting with %s%s%s\n", "AKIA", "IOSFODNN7", "EXAMPLF") // in one piece, the image would hold it
	}
	if faults["ill-in-place"] && os.Getenv("GREETING") != "" {
		fmt.Println("cannot greet here")
		os.Exit(6)
	}
	if faults["orphans"] {
		for n := 0; n < 5; n++ {
			exec.Command("/subject", "leaves-a-child").Start()
		}
	}
	if faults["needs-root"] && os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "this has to run as root")
		os.Exit(1)
	}
	if faults["writes"] {
		if err := os.WriteFile("/data/state", []byte("x"), 0o600); err != nil {
			fmt.Println("could not save:", err)
		}
	}
	if faults["writes-or-dies"] {
		if err := os.WriteFile("/data/state", []byte("x"), 0o600); err != nil {
			fmt.Println("could not save:", err)
			time.Sleep(200 * time.Millisecond)
			os.Exit(4)
		}
	}
	if faults["eats-memory"] {
		hoard := [][]byte{}
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			hoard = append(hoard, block)
			_ = hoard
		}
	}
	if faults["second-port"] {
		go http.ListenAndServe(":7070", nil)
	}
	stop := make(chan os.Signal, 1)
	if !faults["no-handler"] {
		signal.Notify(stop, syscall.SIGTERM)
	}
	if faults["slow"] {
		time.Sleep(3 * time.Second)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if faults["sick"] {
			w.WriteHeader(500)
		}
		if faults["dies-later"] {
			go func() { time.Sleep(100 * time.Millisecond); os.Exit(5) }()
		}
		fmt.Fprint(w, os.Getenv("GREETING"))
	})
	go http.ListenAndServe(address, nil)
	if faults["quiet"] {
		fmt.Fprintln(os.Stderr, "listening")
	} else {
		fmt.Println("listening")
	}
	for {
		<-stop
		if !faults["ignores-sigterm"] {
			os.Exit(0)
		}
	}
}
