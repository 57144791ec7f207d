package install

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// Firmware is what the machine's firmware lets programs say about booting. ErrNoFirmware is the answer of a machine that
// was started by a BIOS.
type Firmware interface {
	// List lists the names of the global variables.
	List() ([]string, error)
	// Read gives a variable's value; fs.ErrNotExist when there is none.
	Read(name string) ([]byte, error)
	// Write gives a variable a value that outlives the power.
	Write(name string, value []byte) error
}

// ErrNoFirmware says that there are no variables to write.
var ErrNoFirmware = errors.New("the machine was not started by UEFI")

// globalVariables is the namespace of the variables that the UEFI specification defines (section 3.3).
const globalVariables = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// persistent is EFI_VARIABLE_NON_VOLATILE, BOOTSERVICE_ACCESS and RUNTIME_ACCESS (UEFI specification, section 8.2).
const persistent = 7

// Variables is the kernel's efivarfs: files NAME-GUID, four bytes of attributes and the value.
type Variables struct{ Root nodefs.Root }

func (v Variables) directory() string { return v.Root.Path("/sys/firmware/efi/efivars") }

// List implements Firmware.
func (v Variables) List() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(v.directory(), "*-"+globalVariables))
	if err != nil || len(files) == 0 {
		return nil, ErrNoFirmware
	}
	for i, file := range files {
		name := filepath.Base(file)
		files[i] = name[:len(name)-len(globalVariables)-1]
	}
	return files, nil
}

// Read implements Firmware.
func (v Variables) Read(name string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(v.directory(), name+"-"+globalVariables))
	if err != nil {
		return nil, err
	}
	if len(raw) < 4 {
		return nil, fs.ErrNotExist
	}
	return raw[4:], nil
}

// Write implements Firmware. The kernel marks most variables immutable, against an rm that goes astray.
func (v Variables) Write(name string, value []byte) error {
	path := filepath.Join(v.directory(), name+"-"+globalVariables)
	if err := mutable(path); err != nil {
		return fmt.Errorf("writing the firmware's variable %s: %w", name, err)
	}
	// One write: the kernel hands each to the firmware as a whole value.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("writing the firmware's variable %s: %w", name, err)
	}
	_, err = file.Write(append(binary.LittleEndian.AppendUint32(nil, persistent), value...))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing the firmware's variable %s: %w", name, err)
	}
	return nil
}

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

// mutable takes the immutable flag from a file that has it.
func mutable(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		// A filesystem without flags has none to take.
		return nil
	}
	return unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

// loaderPath is what firmware starts from a disk that it has no entry for (UEFI specification, section 3.5.1.1).
const loaderPath = `\EFI\BOOT\BOOTX64.EFI`

// entryName is the name of the boot entry in the firmware's menu.
const entryName = "kiln"

var bootEntry = regexp.MustCompile(`^Boot[0-9A-F]{4}$`)

// preferDisk makes the firmware start from the EFI system partition esp: by an entry of its own, first in the order and next
// time for certain. It returns the entry's name. What is right already is not written: the firmware's memory wears.
func preferDisk(f Firmware, esp entry, sector int64) (string, error) {
	option, err := loadOption(entryName, esp, sector)
	if err != nil {
		return "", err
	}
	number, err := place(f, option)
	if err != nil {
		return "", err
	}
	own := binary.LittleEndian.AppendUint16(nil, number)
	order, err := f.Read("BootOrder")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the firmware's boot order: %w", err)
	}
	want := slices.Clone(own)
	for pair := range slices.Chunk(order, 2) {
		if len(pair) == 2 && !bytes.Equal(pair, own) {
			want = append(want, pair...)
		}
	}
	if !bytes.Equal(order, want) {
		if err := f.Write("BootOrder", want); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Boot%04X", number), f.Write("BootNext", own)
}

// place finds the entry that a former installation made, or takes a free number.
func place(f Firmware, option []byte) (uint16, error) {
	names, err := f.List()
	if err != nil {
		return 0, err
	}
	slices.Sort(names)
	taken := map[string]bool{}
	prefix := utf16Text(entryName)
	for _, name := range names {
		if !bootEntry.MatchString(name) {
			continue
		}
		taken[name] = true
		have, err := f.Read(name)
		if err != nil {
			continue
		}
		// Ours is known by its name: a machine has one installation, and an old entry would lead nowhere.
		if len(have) < 6 || !bytes.HasPrefix(have[6:], prefix) {
			continue
		}
		number, err := strconv.ParseUint(name[4:], 16, 16)
		if err != nil {
			continue
		}
		if bytes.Equal(have, option) {
			return uint16(number), nil
		}
		return uint16(number), f.Write(name, option)
	}
	for number := range 0x10000 {
		if name := fmt.Sprintf("Boot%04X", number); !taken[name] {
			return uint16(number), f.Write(name, option)
		}
	}
	return 0, errors.New("the firmware has no boot entry free")
}

// loadOption is an EFI_LOAD_OPTION (UEFI specification, section 3.1.3): attributes, length of the path, name, path.
func loadOption(name string, esp entry, sector int64) ([]byte, error) {
	id, err := encodeGUID(esp.id)
	if err != nil {
		return nil, err
	}
	file := utf16Text(loaderPath)
	// A hard drive node (section 10.3.5.1), with the partition's GUID as its signature, then a file and the end.
	path := []byte{4, 1, 42, 0}
	path = binary.LittleEndian.AppendUint32(path, uint32(esp.number))
	path = binary.LittleEndian.AppendUint64(path, uint64(esp.offset/sector))
	path = binary.LittleEndian.AppendUint64(path, uint64(esp.size/sector))
	path = append(append(path, id...), 2, 2)
	path = append(path, 4, 4)
	path = binary.LittleEndian.AppendUint16(path, uint16(4+len(file)))
	path = append(append(path, file...), 0x7f, 0xff, 4, 0)

	const active = 1
	option := binary.LittleEndian.AppendUint32(nil, active)
	option = binary.LittleEndian.AppendUint16(option, uint16(len(path)))
	return append(append(option, utf16Text(name)...), path...), nil
}

// utf16Text is text as the firmware writes it, with a zero behind.
func utf16Text(text string) []byte {
	var raw []byte
	for _, unit := range append(utf16.Encode([]rune(text)), 0) {
		raw = binary.LittleEndian.AppendUint16(raw, unit)
	}
	return raw
}
