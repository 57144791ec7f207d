package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// failedUnits wants systemd to have no failed unit.
func (n *node) failedUnits(ctx context.Context) (string, error) {
	var units []struct {
		Unit        string `json:"unit"`
		Description string `json:"description"`
	}
	if err := n.outputJSON(ctx, &units, "systemctl", "list-units", "--failed", "--output=json", "--no-pager"); err != nil {
		return "", err
	}
	var problems []error
	for _, u := range units {
		problems = append(problems, fmt.Errorf("%s (%s) has failed; want none", u.Unit, u.Description))
	}
	return "", errors.Join(problems...)
}

// kubeletRestarts is how often the kubelet may have been restarted: kubeadm itself restarts it.
const kubeletRestarts = 3

// kubeletUnit wants the kubelet to run, and not to have crashed in a loop before kubeadm gave it a configuration.
func (n *node) kubeletUnit(ctx context.Context) (string, error) {
	text, err := n.output(ctx, "systemctl", "show", "kubelet.service", "--property=ActiveState,SubState,NRestarts")
	if err != nil {
		return "", err
	}
	state := parseAssignments(text)
	restarts, err := strconv.Atoi(state["NRestarts"])
	if err != nil {
		return "", fmt.Errorf("reading NRestarts: %w", err)
	}
	if restarts > kubeletRestarts {
		err = fmt.Errorf("restarts: got %d, want at most %d", restarts, kubeletRestarts)
	}
	return fmt.Sprintf("%d restarts", restarts), errors.Join(err, differs("state", state["ActiveState"]+"/"+state["SubState"], "active/running"))
}
