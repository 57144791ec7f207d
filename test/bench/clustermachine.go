package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// watchMachine watches this machine until the function that it returns is called. That one says by how many bytes the
// available memory went down at most, and how busy the processors were, in percent.
func watchMachine() (end func() (memory int64, busy float64)) {
	available, idle, total := memoryAvailable(), int64(0), int64(0)
	least := available
	idle, total = processorTicks()
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			least = min(least, memoryAvailable())
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	})
	return func() (int64, float64) {
		close(stop)
		running.Wait()
		idleNow, totalNow := processorTicks()
		return available - least, 100 - 100*float64(idleNow-idle)/float64(max(1, totalNow-total))
	}
}

// memoryAvailable is in bytes (proc(5), meminfo).
func memoryAvailable() int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10
}

// processorTicks are of all processors: those spent idle or waiting for a disk, and all (proc(5), stat).
func processorTicks() (idle, total int64) {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line) {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		if i == 4 || i == 5 {
			idle += ticks
		}
		if i <= 8 { // what follows is counted in these already
			total += ticks
		}
	}
	return idle, total
}
