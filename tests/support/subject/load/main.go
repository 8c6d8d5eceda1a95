// An HTTP client with a fixed rate: `load URL RATE`, until its input ends.
//
// A request begins when it is due, however long others take (an open loop), each with a connection of its own; on a busy
// machine it may begin late. What was seen is written as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const patience = 30 * time.Second

type seen struct {
	Sent    int      `json:"sent"`
	Seconds float64  `json:"seconds"`
	Late    float64  `json:"late"`
	Failed  []string `json:"failed"`
}

func request(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return err
}

func main() {
	rate, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	result, lock, waiting := seen{Failed: []string{}}, sync.Mutex{}, sync.WaitGroup{}
	begun := time.Now()
	end := make(chan time.Time, 1)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end <- time.Now()
	}()
	fmt.Println("begun")
	until := begun.Add(time.Hour)
	for {
		due := begun.Add(time.Duration(result.Sent) * time.Second / time.Duration(rate))
		select {
		case until = <-end:
		case <-time.After(time.Until(due)):
		}
		if due.After(until) {
			break
		}
		if time.Now().Before(due) {
			continue
		}
		result.Late = max(result.Late, time.Since(due).Seconds())
		result.Sent++
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			if err := request(client, os.Args[1]); err != nil {
				lock.Lock()
				defer lock.Unlock()
				result.Failed = append(result.Failed, fmt.Sprintf("%.2f s: %v", due.Sub(begun).Seconds(), err))
			}
		}()
	}
	result.Seconds = until.Sub(begun).Seconds()
	waiting.Wait()
	json.NewEncoder(os.Stdout).Encode(result)
}
