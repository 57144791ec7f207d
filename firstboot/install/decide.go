package install

import (
	"bytes"
	"fmt"

	"github.com/kiln-os/kiln/internal/document"
)

// What is done with a disk.
const (
	// doWrite writes all of it.
	doWrite = "write"
	// doCarry only replaces the identity that the disk carries.
	doCarry = "carry"
	// doBoot leaves it as it is.
	doBoot = "boot"
)

// wanted is what the disk is to become.
type wanted struct {
	// manifest is the SHA-256 of install.json.
	manifest      string
	node, cluster string
	// carry is the content of the partition that carries the identity.
	carry []byte
	// wipe is the word that lets what is on the disk be destroyed; empty does not.
	wipe string
}

// decide compares what a disk holds with what it is to become, and says why it comes to its answer. A refusal is an error
// that no retry can mend.
//
// A node that has begun to live is never written over because something in the network has changed: not the image, not a
// token in its identity. Only a word for wiping does that, and each word once, since the disk remembers it.
func decide(h holding, w wanted) (what, why string, err error) {
	mayWipe := w.wipe != "" && (h.record == nil || h.record.Wipe != w.wipe || h.record.State == began)
	switch {
	case mayWipe && (h.data != "" || h.record != nil):
		return doWrite, "it may be wiped: " + h.describe(), nil
	case h.joined && h.record.isOf(w):
		return doBoot, h.record.age(w), nil
	case h.joined || h.unclear != "":
		return "", "", h.refusal(w)
	case h.record != nil && h.record.State == writing:
		return doWrite, "an installation of ours was interrupted there", nil
	case h.record != nil && h.record.State == finished && h.record.Manifest != w.manifest:
		return doWrite, "it was installed from another image, and has never been a node", nil
	case h.record != nil && h.record.State == finished && w.node != "" && (!bytes.Equal(h.carried, w.carry) || h.record.Node != w.node || h.record.Cluster != w.cluster):
		return doCarry, "it was installed before, has never been a node or was reset, and does not carry the identity of now", nil
	case h.record != nil && h.record.State == finished:
		return doBoot, "it was installed before", nil
	case h.data != "":
		return "", "", h.refusal(w)
	}
	return doWrite, "it is blank", nil
}

// isOf tells whether the disk was installed for that node, by the names of node and cluster: tokens in an identity change.
// One that was installed without an identity is everybody's.
func (r *record) isOf(w wanted) bool {
	return r != nil && r.State != began && (r.Node == w.node && r.Cluster == w.cluster || r.Node == "" || w.node == "")
}

func (r *record) age(w wanted) string {
	if r.Manifest != w.manifest {
		return fmt.Sprintf("it is the node's, installed from another image (%s) on %s; only a new word for wiping would replace it", r.Image, r.Time.UTC().Format("2006-01-02"))
	}
	return "it is the node's, installed on " + r.Time.UTC().Format("2006-01-02")
}

// describe says what the disk holds, for people.
func (h holding) describe() string {
	text := h.data
	switch {
	case text == "":
		text = "nothing but a record of an installation"
	case h.joined && h.record != nil && h.record.Node != "":
		text = fmt.Sprintf("the node %s of the cluster %s: %s", h.record.Node, h.record.Cluster, text)
	case h.joined:
		text = "a kiln node: " + text
	case h.unclear != "":
		text += fmt.Sprintf("; whether it is a node cannot be told: %s", h.unclear)
	}
	return text
}

// refusal says why the disk is not written, and what lets it be.
func (h holding) refusal(w wanted) error {
	problem := document.Problem{File: "install", Field: "wipe", Text: fmt.Sprintf("is not given, and the disk holds %s; choose another disk, "+
		"or let this be destroyed with install.wipe in the identity or kiln.install.wipe on the kernel command line", h.describe())}
	if w.wipe != "" {
		problem.Text = fmt.Sprintf("is %q, which has wiped this disk before, and it holds %s; give another word to wipe it once more", w.wipe, h.describe())
	}
	return problem
}
