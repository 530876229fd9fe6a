package servers

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// What "clickhouse local" does with an exception that leaves a connection (a client that went away in mid-sentence, an
// unknown database in a handshake): end the process. It is a class of C++, known by its type's name.
const (
	killingHandler = "19KillingErrorHandler\x00"
	// Its virtual functions exception(Poco::Exception), exception(std::exception) and exception(), after two destructors.
	firstException, afterExceptions = 2, 5
)

// outliveConnections makes the library's server survive what its connections throw, as a real ClickHouse server does: it
// puts a function that does nothing into the virtual table of the class that would end it. The library is pinned by
// package-lock.json; where the class is not found as expected, nothing is touched and an error says so.
func outliveConnections(library string, handle uintptr) error {
	file, err := elf.Open(library)
	if err != nil {
		return err
	}
	defer file.Close()
	base, err := loadAddress(file, handle)
	if err != nil {
		return err
	}
	names, tables := file.Section(".rodata"), file.Section(".data.rel.ro")
	if names == nil || tables == nil {
		return errors.New("the library has no sections .rodata and .data.rel.ro")
	}
	text, err := names.Data()
	if err != nil {
		return fmt.Errorf("read .rodata: %w", err)
	}
	at := bytes.Index(text, []byte(killingHandler))
	if at < 0 {
		return errors.New("the library has no class KillingErrorHandler")
	}
	start := base + uintptr(tables.Addr)
	words := unsafe.Slice((*uintptr)(pointer(start)), tables.Size/uint64(unsafe.Sizeof(start)))
	// A type's description is (its own table, its name, its base); a table is (0, its type's description, functions …).
	name := slices.Index(words, base+uintptr(names.Addr)+uintptr(at))
	if name < 1 {
		return errors.New("the class KillingErrorHandler has no description")
	}
	table := slices.Index(words, start+uintptr(name-1)*unsafe.Sizeof(start))
	if table < 1 || table+1+afterExceptions > len(words) || words[table-1] != 0 {
		return errors.New("the class KillingErrorHandler has no virtual table")
	}
	nothing, err := purego.Dlsym(purego.RTLD_DEFAULT, "getpid")
	if err != nil {
		return err
	}
	functions := words[table+1:][firstException:afterExceptions]
	return writable(functions, func() {
		for i := range functions {
			functions[i] = nothing
		}
	})
}

// loadAddress returns where the loader put the library.
func loadAddress(file *elf.File, handle uintptr) (uintptr, error) {
	const known = "chdb_query_cmdline"
	address, err := purego.Dlsym(handle, known)
	if err != nil {
		return 0, err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, err
	}
	for _, symbol := range symbols {
		if symbol.Name == known {
			return address - uintptr(symbol.Value), nil
		}
	}
	return 0, fmt.Errorf("the library does not export %s", known)
}

// writable lets change write to words, which the loader left read-only.
func writable(words []uintptr, change func()) error {
	page := uintptr(syscall.Getpagesize())
	first := uintptr(unsafe.Pointer(&words[0])) &^ (page - 1)
	end := uintptr(unsafe.Pointer(&words[len(words)-1])) + unsafe.Sizeof(words[0])
	pages := unsafe.Slice((*byte)(pointer(first)), (end-first+page-1)&^(page-1))
	if err := syscall.Mprotect(pages, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		return fmt.Errorf("make the table writable: %w", err)
	}
	change()
	return syscall.Mprotect(pages, syscall.PROT_READ)
}

// pointer is an address in memory that is not Go's, and so never moves.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }
