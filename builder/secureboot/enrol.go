package secureboot

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/foxboron/go-uefi/pkcs7"
)

// guid is a GUID as firmware stores it: three numbers in little-endian order, then eight bytes (UEFI 2.10, appendix A).
type guid struct {
	A    uint32
	B, C uint16
	D    [8]byte
}

// The GUIDs of UEFI 2.10: what a signature list holds (32.4.1), how a variable is signed (32.2.4), and whose the
// variables are (3.3 and 32.6.1).
var (
	certX509       = guid{0xa5c059a1, 0x94e4, 0x4aa7, [8]byte{0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}}
	certPKCS7      = guid{0x4aafd29d, 0x68df, 0x49ee, [8]byte{0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}}
	globalVariable = guid{0x8be4df61, 0x93ca, 0x11d2, [8]byte{0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}}
	imageSecurity  = guid{0xd719b2cb, 0x3d3a, 0x4596, [8]byte{0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}}
)

// variable is one that decides about Secure Boot.
type variable struct {
	name  string
	owner guid
}

// attributes of the variables: non-volatile, of boot and run time, written with a time and a signature (UEFI 2.10, 8.2).
const attributes = uint32(0x01 | 0x02 | 0x04 | 0x20)

// Enrolment makes the files that bring the certificate into a machine's firmware, by name: the certificate for firmware
// menus (DER) and programs (PEM), and for each of PK, KEK and db its list (.esl) and the signed write to the variable (.auth),
// as systemd-boot, efi-updatevar and firmware take them. One certificate is all three: who builds the images owns the
// machines. The time is what a later write has to be newer than.
func (s Signer) Enrolment(at time.Time) (map[string][]byte, error) {
	files := map[string][]byte{
		"kiln.cer": s.certificate.Raw,
		"kiln.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw}),
	}
	for _, v := range []variable{{"PK", globalVariable}, {"KEK", globalVariable}, {"db", imageSecurity}} {
		list := s.list()
		signed, err := s.write(v, list, at)
		if err != nil {
			return nil, fmt.Errorf("making the enrolment file of %s: %w", v.name, err)
		}
		files[v.name+".esl"], files[v.name+".auth"] = list, signed
	}
	return files, nil
}

// list is an EFI_SIGNATURE_LIST with the certificate (UEFI 2.10, 32.4.1). The owner is derived from the certificate.
func (s Signer) list() []byte {
	const header, ownerSize = 28, 16
	sum := sha256.Sum256(s.certificate.Raw)
	size := uint32(ownerSize + len(s.certificate.Raw))
	return marshal(certX509, header+size, uint32(0), size, sum[:ownerSize], s.certificate.Raw)
}

// write is the content of a variable behind an EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.10, 8.2.2): the signature covers name,
// owner, attributes, time and content.
func (s Signer) write(v variable, content []byte, at time.Time) ([]byte, error) {
	stamp := efiTime(at)
	covered := marshal(utf16.Encode([]rune(v.name)), v.owner, attributes, stamp, content)
	info, err := pkcs7.SignPKCS7(s.key, s.certificate, pkcs7.OIDData, covered, pkcs7.NoAttr())
	if err != nil {
		return nil, err
	}
	// Firmware wants the SignedData by itself, without the ContentInfo around it.
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0] EXPLICIT: its bytes are the SignedData
	}
	if _, err := asn1.Unmarshal(info, &outer); err != nil {
		return nil, err
	}
	signed := outer.Content.Bytes
	const revision, kind, header = uint16(0x0200), uint16(0x0ef1), 4 + 2 + 2 + 16 // WIN_CERT_TYPE_EFI_GUID
	return marshal(stamp, uint32(header+len(signed)), revision, kind, certPKCS7, signed, content), nil
}

// efiTime is an EFI_TIME in UTC; in a signed variable everything below the second is zero.
func efiTime(at time.Time) []byte {
	at = at.UTC()
	return marshal(uint16(at.Year()), uint8(at.Month()), uint8(at.Day()), uint8(at.Hour()), uint8(at.Minute()), uint8(at.Second()), [9]byte{})
}

// marshal writes fixed-size values one after the other, little-endian, without gaps.
func marshal(values ...any) []byte {
	var out bytes.Buffer
	for _, value := range values {
		// A buffer takes everything, and every value here has a fixed size.
		if err := binary.Write(&out, binary.LittleEndian, value); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}
