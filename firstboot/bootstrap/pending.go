package bootstrap

import "context"

// PENDING: whoever writes one of these in a file of its own removes it here. The lead removes the file.

func (p plan) record(context.Context) (string, error) { return "", nil }
