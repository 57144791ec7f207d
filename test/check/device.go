package main

import "golang.org/x/sys/unix"

// deviceOf is the number of the filesystem on which path lies.
func deviceOf(path string) (uint64, error) {
	var stat unix.Stat_t
	err := unix.Lstat(path, &stat)
	return uint64(stat.Dev), err
}
