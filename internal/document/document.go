// Package document decodes kiln's YAML documents strictly and reports every problem of a document at once.
//
// A document is one YAML mapping that begins with `apiVersion: kiln/v1alpha1` and `kind`. Decoding refuses unknown
// fields, fields given twice, and values of the wrong type; each problem names the file, the field by its path, what
// is wrong, and what is allowed.
package document

import (
	_ "embed"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// APIVersion is the only version of every document kind.
const APIVersion = "kiln/v1alpha1"

// Header begins every document.
type Header struct {
	// APIVersion is always kiln/v1alpha1.
	APIVersion string `json:"apiVersion"`
	// Kind names the document: Image, Profile, Release, Cluster or Identity.
	Kind string `json:"kind"`
}

// Problem is one thing wrong with one field of one document.
type Problem struct {
	// File is the path or name that the user gave for the document.
	File string
	// Field is the path of the field, as in disk.root or taints[0].effect; empty when the whole document is meant.
	Field string
	// Text says what is wrong and, after a semicolon, what is allowed or what to do.
	Text string
}

// Error renders `file: field: problem; what to do`.
func (p Problem) Error() string {
	parts := []string{}
	for _, s := range []string{p.File, p.Field, p.Text} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems collects what is wrong with one document, so that a user sees all of it at once.
type Problems struct {
	File string
	list []Problem
}

// Add notes a problem of field; format and args say what is wrong and what to do.
func (p *Problems) Add(field, format string, args ...any) {
	p.list = append(p.list, Problem{File: p.File, Field: field, Text: fmt.Sprintf(format, args...)})
}

// Err is nil without problems, else one error that joins them, ordered by field.
func (p *Problems) Err() error {
	sort.SliceStable(p.list, func(i, j int) bool { return p.list[i].Field < p.list[j].Field })
	errs := make([]error, len(p.list))
	for i := range p.list {
		errs[i] = p.list[i]
	}
	return errors.Join(errs...)
}

// List takes apart what Err joined, in the same order; errors that are no Problem are left out.
func List(err error) []Problem {
	var list []Problem
	switch e := err.(type) {
	case Problem:
		list = append(list, e)
	case interface{ Unwrap() []error }:
		for _, child := range e.Unwrap() {
			list = append(list, List(child)...)
		}
	}
	return list
}

// IsInvalid reports whether err says that a document is wrong, which no retry can mend (exit code 78).
func IsInvalid(err error) bool {
	var p Problem
	return errors.As(err, &p)
}

// Text is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed document.go
var Text string
