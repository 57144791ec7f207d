package initramfs

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

const modulesDep = `kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko kernel/drivers/ata/libata.ko kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/ata/libahci.ko: kernel/drivers/ata/libata.ko kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/ata/libata.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/scsi_mod.ko:
kernel/drivers/block/xen-blkfront.ko:
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko
`

// testModules returns modules whose insertion is noted in the returned list; the named ones are refused.
func testModules(refuse ...string) (*modules, *[]string) {
	var mu sync.Mutex
	var inserted []string
	m := &modules{dir: "/m", deps: parseModulesDep(modulesDep), attempts: map[string]*attempt{}}
	m.insert = func(path string) error {
		mu.Lock()
		defer mu.Unlock()
		inserted = append(inserted, filepath.Base(path))
		for _, name := range refuse {
			if moduleName(path) == name {
				return errors.New("no such device")
			}
		}
		return nil
	}
	return m, &inserted
}

func TestLoadInOrderAndOnce(t *testing.T) {
	m, inserted := testModules()
	for _, name := range []string{"ahci", "xen-blkfront", "libahci", "virtio_pci", "ahci"} {
		if err := m.load(name); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"scsi_mod.ko", "libata.ko", "libahci.ko", "ahci.ko", "xen-blkfront.ko"}; !reflect.DeepEqual(*inserted, want) {
		t.Errorf("inserted %v, want %v", *inserted, want)
	}
	if want := []string{"scsi_mod", "libata", "libahci", "ahci", "xen_blkfront"}; !reflect.DeepEqual(m.names(), want) {
		t.Errorf("loaded %v, want %v", m.names(), want)
	}
}

func TestLoadRefused(t *testing.T) {
	m, inserted := testModules("ahci")
	err := m.load("ahci")
	if err == nil || !strings.Contains(err.Error(), "loading module ahci: no such device") {
		t.Errorf("error is %v", err)
	}
	if m.load("ahci") == nil || len(*inserted) != 4 {
		t.Errorf("tried again: %v", *inserted)
	}
	if got := m.refused(); len(got) != 1 || !strings.Contains(got[0], "ahci") {
		t.Errorf("refused lists %v", got)
	}
	// What a dependency refuses does not matter while the module itself goes in.
	m, _ = testModules("libata")
	if err := m.load("ahci"); err != nil {
		t.Errorf("ahci was loaded, but: %v", err)
	}
}

func TestLoadCircleFromTwoSides(t *testing.T) {
	m, inserted := testModules()
	var wait sync.WaitGroup
	for _, name := range []string{"a", "b", "a", "b"} {
		wait.Go(func() { _ = m.load(name) })
	}
	wait.Wait()
	if len(*inserted) != 2 {
		t.Errorf("inserted %v, want each once", *inserted)
	}
}
