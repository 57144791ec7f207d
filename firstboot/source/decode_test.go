package source

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

func TestUserData(t *testing.T) {
	tests := []struct {
		name    string
		allowed wrapping
		text    string
		want    string
		wantErr string
	}{
		{name: "plain", allowed: plain, text: identity, want: identity},
		{name: "byte order mark", allowed: plain, text: "\ufeff" + identity, want: identity},
		{name: "JSON that is no Ignition", allowed: plain, text: `{"kind":"Identity"}`, want: `{"kind":"Identity"}`},
		{name: "gzip", allowed: userData, text: zipped(t, identity), want: identity},
		{name: "gzip in a file", allowed: plain, text: zipped(t, identity), wantErr: "is packed with gzip; put it there as plain text"},
		{name: "base64 in lines", allowed: encodedUserData, text: base(identity)[:20] + "\n" + base(identity)[20:] + "\n", want: identity},
		{name: "base64 where a cloud takes it off", allowed: userData, text: base(identity), want: base(identity)},
		{name: "message", allowed: userData, text: message(identity), want: strings.TrimSuffix(identity, "\n") + "\n"},
		{name: "gzipped message", allowed: userData, text: zipped(t, message(config)), want: "from-config"},
		{name: "base64 in a message", allowed: userData, want: identity,
			text: "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base(identity) + "\r\n--B--\r\n"},
		{name: "message on a disk", allowed: plain, text: message(identity), wantErr: "is a MIME message, which only user-data of a cloud may be"},
		{name: "message with cloud-config beside it", allowed: userData, text: message(identity, "#cloud-config\nusers: []"), wantErr: "x, part 2: is a cloud-config, which kiln does not apply"},
		{name: "message with two", allowed: userData, text: message(identity, config), wantErr: "has 2 parts that may hold an identity; want one"},
		{name: "message with none", allowed: userData, text: message(), wantErr: "has 0 parts that may hold an identity"},
		{name: "message cut off", allowed: userData, text: message(identity)[:100], wantErr: "cannot be read"},
		{name: "message without a boundary", allowed: userData, text: "Content-Type: multipart/mixed\n\nx", wantErr: "MIME message that cannot be read"},
		{name: "message within a message", allowed: userData, text: message(message(identity)), wantErr: "x, part 1: is a MIME message"},
		{name: "script", allowed: userData, text: "\n#!/bin/bash\nkubeadm join --token " + secret, wantErr: "is a script"},
		{name: "template", allowed: userData, text: "## template: jinja\n#cloud-config\n", wantErr: "is user-data for cloud-init"},
		{name: "Butane", allowed: plain, text: "variant: fcos\nversion: 1.5.0\n", wantErr: "is a Butane config; make an Ignition config of it with butane"},
		{name: "include", allowed: userData, text: "#include\nhttp://x\n", wantErr: "is user-data for cloud-init"},
		{name: "white space", allowed: userData, text: " \n\t\n", wantErr: "x: is empty"},
		{name: "white space, much of it", allowed: userData, text: strings.Repeat(" ", 2000) + "kind: Identity", want: strings.Repeat(" ", 2000) + "kind: Identity"},
		{name: "UTF-16", allowed: userData, text: "\xff\xfek\x00i\x00", wantErr: "is no text"},
		{name: "too large", allowed: plain, text: strings.Repeat("x", maxBytes+1), wantErr: "has more than 1048576 bytes"},
		{name: "bomb in base64", allowed: encodedUserData, text: base(zipped(t, strings.Repeat("x", 8<<20))), wantErr: "has more than 1048576 bytes, unpacked"},
		{name: "bomb in a message", allowed: userData, text: "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Transfer-Encoding: base64\n\n" +
			base(zipped(t, strings.Repeat("x", 8<<20))) + "\n--B--\n", wantErr: "x, part 1: has more than 1048576 bytes"},
		{name: "broken gzip", allowed: userData, text: zipped(t, identity)[:12] + "####################################", wantErr: "x: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := tt.allowed.read("x", []byte(tt.text))
			if tt.wantErr == "" {
				if err != nil || strings.TrimRight(string(found.Text), "\n") != strings.TrimRight(tt.want, "\n") {
					t.Errorf("have %q, %v", found.Text, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) || !document.IsInvalid(err) {
				t.Fatalf("have %q, %v; want %s", found.Text, err, tt.wantErr)
			}
			if strings.Contains(err.Error(), secret[7:]) {
				t.Errorf("message shows the secret: %v", err)
			}
		})
	}
}
