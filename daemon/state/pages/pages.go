// Package pages tells whether a file of bbolt's is whole.
//
// bbolt maps its file and trusts it: of a damaged page it makes a panic, a
// fault, an endless loop, or a record less. So before bbolt sees the file it is
// read as a file, once and up to where the newest transaction ends, and must be
// what bbolt writes, to the byte (bbolt's file format 2):
//
//	page      number, kind, count, how many pages follow that belong to it; then
//	          the elements and, packed behind them in their order, their data
//	meta      pages 0 and 1: of the last two transactions, with a checksum
//	branch    keys, and the page that begins with each
//	leaf      keys and values; a value may be a bucket: the page of its root, or 0
//	          and a leaf page without a number inside of the value
//	freelist  the pages of no use
//
// Every page belongs to just one of them. What is left is what keys and values
// say: that is for checksums of those who wrote them.
package pages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

const (
	pageHead    = 16 // of a page, of an element, and of a bucket's value
	metaSize    = 64 // all of it lies in one sector
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	manyFree    = 0xFFFF // count of a freelist that has its count in front

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
)

// meta is the part of a meta page that says where everything is.
type meta struct {
	pageSize, root, freelist, end, tx uint64
}

// readMeta reads meta page n, 0 or 1. Transactions take turns.
func readMeta(file io.ReaderAt, n, pageSize uint64) (meta, error) {
	b := make([]byte, metaSize)
	if _, err := file.ReadAt(b, int64(n*pageSize+pageHead)); err != nil {
		return meta{}, err
	}
	hash := fnv.New64a()
	hash.Write(b[:56])
	if u32(b) != metaMagic || u32(b[4:]) != metaVersion || u64(b[56:]) != hash.Sum64() || u64(b[48:])%2 != n {
		return meta{}, errors.New("a meta page is damaged")
	}
	return meta{pageSize: uint64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), end: u64(b[40:]), tx: u64(b[48:])}, nil
}

// pages are the pages of a file of which each is to be met once.
type pages struct {
	data []byte
	size uint64
	root uint64 // may be empty: a file without buckets
	met  []bool
}

// Check returns an error unless the file, which has size bytes, is whole. bbolt goes back by a
// transaction if a meta page is damaged; but no power cut tears a page of one
// sector, and what a record of changes says would be forgotten with it.
func Check(file io.ReaderAt, size int64) error {
	m, err := readMeta(file, 0, 0)
	if err != nil {
		return err
	}
	other, err := readMeta(file, 1, m.pageSize)
	if err != nil {
		return err
	}
	if other.tx > m.tx {
		m = other
	}
	if m.pageSize == 0 || m.end < 2 || m.end > uint64(size)/m.pageSize {
		return fmt.Errorf("it is cut short: it has %d bytes, and %d pages of %d", size, m.end, m.pageSize)
	}
	p := &pages{data: make([]byte, m.end*m.pageSize), size: m.pageSize, root: m.root, met: make([]bool, m.end)}
	if _, err := file.ReadAt(p.data, 0); err != nil {
		return err
	}
	p.met[0], p.met[1] = true, true
	if err := p.free(m.freelist); err != nil {
		return err
	}
	if err := p.tree(m.root, nil, nil); err != nil {
		return err
	}
	for n, met := range p.met {
		if !met {
			return fmt.Errorf("page %d is lost", n)
		}
	}
	return nil
}

// meet returns page n with those that belong to it.
func (p *pages) meet(n uint64) ([]byte, error) {
	if err := p.mark(n); err != nil {
		return nil, err
	}
	page := p.data[n*p.size:]
	if u64(page) != n {
		return nil, fmt.Errorf("page %d says that it is page %d", n, u64(page))
	}
	more := uint64(u32(page[12:]))
	for i := range more {
		if err := p.mark(n + 1 + i); err != nil {
			return nil, err
		}
	}
	return page[:(1+more)*p.size], nil
}

func (p *pages) mark(n uint64) error {
	switch {
	case n >= uint64(len(p.met)):
		return fmt.Errorf("there is no page %d", n)
	case p.met[n]:
		return fmt.Errorf("page %d is used twice", n)
	}
	p.met[n] = true
	return nil
}

// free meets the pages of the freelist.
func (p *pages) free(n uint64) error {
	page, err := p.meet(n)
	if err != nil {
		return err
	}
	if kind(page) != freelistPage {
		return fmt.Errorf("page %d is no freelist", n)
	}
	ids, count := page[pageHead:], uint64(count(page))
	if count == manyFree {
		ids, count = ids[8:], u64(ids)
	}
	if count > uint64(len(ids))/8 {
		return fmt.Errorf("page %d, the freelist, is cut short", n)
	}
	for i := range count {
		if err := p.mark(u64(ids[8*i:])); err != nil {
			return fmt.Errorf("page %d, the freelist: %w", n, err)
		}
	}
	return nil
}

// tree meets page n and all below it. Its keys are from low to below high; nil
// is no bound.
func (p *pages) tree(n uint64, low, high []byte) error {
	page, err := p.meet(n)
	if err != nil {
		return err
	}
	if count(page) == 0 && n != p.root {
		return fmt.Errorf("page %d is empty", n) // bbolt keeps none
	}
	elements, err := unpack(page, low, high)
	if err != nil {
		return fmt.Errorf("page %d: %w", n, err)
	}
	for i, e := range elements {
		switch {
		case e.bucket:
			err = p.bucket(e.value)
		case kind(page) == branchPage:
			below := high
			if i+1 < len(elements) {
				below = elements[i+1].key
			}
			err = p.tree(e.page, e.key, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket meets what a bucket has. One that is small has it in its own value.
func (p *pages) bucket(value []byte) error {
	if len(value) < pageHead {
		return errors.New("a bucket is cut short")
	}
	if root := u64(value); root != 0 {
		return p.tree(root, nil, nil)
	}
	page := value[pageHead:]
	if len(page) < pageHead || u64(page) != 0 || kind(page) != leafPage || u32(page[12:]) != 0 {
		return errors.New("a small bucket is damaged")
	}
	elements, err := unpack(page, nil, nil)
	if err != nil {
		return fmt.Errorf("a small bucket: %w", err)
	}
	used := pageHead
	for _, e := range elements {
		if e.bucket {
			return errors.New("a small bucket has a bucket")
		}
		used += pageHead + len(e.key) + len(e.value)
	}
	if used != len(page) {
		return fmt.Errorf("a small bucket has %d bytes and uses %d", len(page), used)
	}
	return nil
}

// element is one of a branch, which has a page, or of a leaf.
type element struct {
	key, value []byte
	page       uint64
	bucket     bool
}

// unpack returns the elements of a branch or a leaf.
func unpack(page, low, high []byte) ([]element, error) {
	if kind(page) != branchPage && kind(page) != leafPage {
		return nil, fmt.Errorf("it is of no kind of a tree's: %#x", kind(page))
	}
	elements := make([]element, count(page))
	at := uint64(pageHead * (1 + len(elements))) // where the next one's data begin
	for i := range elements {
		e, head := &elements[i], uint64(pageHead*(1+i))
		if at > uint64(len(page)) {
			return nil, errors.New("its elements go beyond its end")
		}
		h := page[head:]
		var pos, keyLen, valueLen uint64
		if kind(page) == branchPage {
			pos, keyLen, e.page = uint64(u32(h)), uint64(u32(h[4:])), u64(h[8:])
		} else {
			pos, keyLen, valueLen = uint64(u32(h[4:])), uint64(u32(h[8:])), uint64(u32(h[12:]))
			if u32(h) > 1 {
				return nil, fmt.Errorf("element %d has the flags %#x", i, u32(h))
			}
			e.bucket = u32(h) == 1
		}
		end := at + keyLen + valueLen
		if head+pos != at || keyLen == 0 || end > uint64(len(page)) {
			return nil, fmt.Errorf("element %d is not where it belongs", i)
		}
		e.key, e.value = page[at:at+keyLen], page[at+keyLen:end]
		if i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 || bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, fmt.Errorf("the key of element %d is out of order", i)
		}
		at = end
	}
	return elements, nil
}

func kind(page []byte) uint16  { return binary.NativeEndian.Uint16(page[8:]) }
func count(page []byte) uint16 { return binary.NativeEndian.Uint16(page[10:]) }

func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
