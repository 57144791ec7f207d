package main

import (
	"context"
	"errors"
)

func benchFirstboot(ctx context.Context, t *table) error { return errors.New("TODO") }

func benchBoot(ctx context.Context, t *table) error { return errors.New("TODO") }
