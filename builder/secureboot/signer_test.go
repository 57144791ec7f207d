package secureboot

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

// pair is a key and its certificate, PEM.
func pair(t *testing.T, key crypto.Signer) (keyText, certificateText []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(2000000000, 0),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err)
	return key
}

func signer(t *testing.T) Signer {
	t.Helper()
	key, certificate := pair(t, rsaKey(t, 2048))
	s, err := Parse("key.pem", key, "cert.pem", certificate)
	must(t, err)
	return s
}

// program is the least PE32+ file: one section, a certificate table that is empty.
func program(t *testing.T, text string) []byte {
	t.Helper()
	const headers = 0x200
	out := make([]byte, headers)
	copy(out, "MZ")
	binary.LittleEndian.PutUint32(out[0x3c:], 0x40)
	optional := pe.OptionalHeader64{
		Magic: 0x20b, SectionAlignment: 0x1000, FileAlignment: 0x200, SizeOfImage: 0x2000, SizeOfHeaders: headers, Subsystem: 10, NumberOfRvaAndSizes: 16,
	}
	section := pe.SectionHeader32{
		Name: [8]uint8{'.', 't', 'e', 'x', 't'}, VirtualSize: uint32(len(text)), VirtualAddress: 0x1000, SizeOfRawData: 0x200, PointerToRawData: headers,
		Characteristics: pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_READ,
	}
	copy(out[0x40:], marshal([4]byte{'P', 'E'}, pe.FileHeader{
		Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(optional)), Characteristics: 0x22,
	}, optional, section))
	return append(out, append([]byte(text), make([]byte, 0x200-len(text))...)...)
}

func TestSign(t *testing.T) {
	s := signer(t)
	plain := program(t, "boot me")
	signed, err := s.Sign(plain)
	must(t, err)
	again, err := s.Sign(plain)
	must(t, err)
	if !bytes.Equal(signed, again) {
		t.Error("signing twice gives different bytes")
	}
	if len(signed) <= len(plain) || bytes.Equal(signed[:len(plain)], plain) {
		t.Error("nothing was added to the program, or its headers do not say where")
	}
	for name, at := range map[string]int{"header": 0x44, "section": 0x203} {
		altered := bytes.Clone(signed)
		altered[at] ^= 1
		if err := s.verify(altered); err == nil {
			t.Errorf("a program with one flipped bit in its %s verifies", name)
		}
	}
	if err := signer(t).verify(signed); err == nil {
		t.Error("it verifies with the certificate of another")
	}
	if _, err := s.Sign(signed); err == nil || !strings.Contains(err.Error(), "signed already") {
		t.Errorf("signing it a second time: %v", err)
	}
	if _, err := s.Sign([]byte("no program")); err == nil {
		t.Error("something that is no program was signed")
	}
}

func TestParseRefuses(t *testing.T) {
	key, certificate := pair(t, rsaKey(t, 2048))
	_, other := pair(t, rsaKey(t, 2048))
	small, smallCertificate := pair(t, rsaKey(t, 1024))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	elliptic, ellipticCertificate := pair(t, curve)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})
	damaged := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hush")})
	for _, row := range []struct {
		name             string
		key, certificate []byte
		want             []string
	}{
		{"another's certificate", key, other, []string{"cert.pem: is not the certificate of the key in key.pem"}},
		{"the wrong way round", certificate, key, []string{`key.pem: holds a "CERTIFICATE"`, "cert.pem: is no certificate"}},
		{"elliptic", elliptic, ellipticCertificate, []string{"key.pem: is no RSA key"}},
		{"too short", small, smallCertificate, []string{"1024 bits; want at least 2048"}},
		{"encrypted", encrypted, certificate, []string{"key.pem: is encrypted"}},
		{"damaged", damaged, certificate, []string{"key.pem: is a damaged private key"}},
		{"empty", nil, nil, []string{"key.pem: is no private key", "cert.pem: is no certificate"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse("key.pem", row.key, "cert.pem", row.certificate)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the key's bytes are in the error: %v", err)
			}
		})
	}
}

// A signer is passed about in structures that somebody may print.
func TestSignerIsNotPrinted(t *testing.T) {
	s := signer(t)
	secret := s.key.D.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, text := range []string{fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, struct{ S *Signer }{&s}), fmt.Sprintf(verb, struct{ S Signer }{s})} {
			if strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString(s.key.D.Bytes())) {
				t.Errorf("%s shows the key", verb)
			}
		}
	}
}

func TestEnrolment(t *testing.T) {
	s, at := signer(t), time.Date(2026, 9, 15, 1, 2, 3, 0, time.UTC)
	files, err := s.Enrolment(at)
	must(t, err)
	again, err := s.Enrolment(at)
	must(t, err)
	for _, name := range []string{"PK.esl", "PK.auth", "KEK.esl", "KEK.auth", "db.esl", "db.auth", "kiln.cer", "kiln.pem"} {
		if len(files[name]) == 0 || !bytes.Equal(files[name], again[name]) {
			t.Errorf("%s is missing or differs from one time to the next", name)
		}
	}
	owners := map[string]string{
		"PK": "61dfe48bca93d211aa0d00e098032b8c", "KEK": "61dfe48bca93d211aa0d00e098032b8c", "db": "cbb219d73a3d9645a3bcdad00e67656f",
	}
	for name, owner := range owners {
		write := files[name+".auth"]
		// EFI_TIME: year 2026 is 0x07ea.
		if got := hex.EncodeToString(write[:16]); got != "ea07090f010203000000000000000000" {
			t.Errorf("%s.auth has time %s", name, got)
		}
		size := binary.LittleEndian.Uint32(write[16:])
		if list := write[16+size:]; !bytes.Equal(list, files[name+".esl"]) {
			t.Errorf("%s.auth does not end in the list", name)
		}
		// The signature is an attribute-free one of everything that the firmware puts together itself.
		var covered []byte
		for _, unit := range utf16.Encode([]rune(name)) {
			covered = append(covered, byte(unit), byte(unit>>8))
		}
		guid, err := hex.DecodeString(owner)
		must(t, err)
		covered = append(append(append(covered, guid...), 0x27, 0, 0, 0), write[:16]...)
		sum := sha256.Sum256(append(covered, files[name+".esl"]...))
		// The signature is the last thing in a SignedData of one signer.
		data := write[40 : 16+size]
		if err := rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], data[len(data)-256:]); err != nil {
			t.Errorf("%s.auth: %v", name, err)
		}
		var sequence asn1.RawValue
		if rest, err := asn1.Unmarshal(data, &sequence); err != nil || len(rest) != 0 || sequence.Tag != asn1.TagSequence {
			t.Errorf("%s.auth holds no SignedData by itself: %v", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
