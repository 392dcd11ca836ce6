package main

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// The stream-optimized sparse extent of VMware's Virtual Disk Format 5.0: a header, compressed grains each behind a
// marker with its sector, grain tables behind the grains they name, the grain directory, a footer, an end marker.
const (
	sector       = 512
	grainSectors = grain / sector
	tableEntries = 512
	overhead     = 128 // sectors before the first grain
)

type header struct {
	Magic              uint32
	Version            uint32
	Flags              uint32
	Capacity           uint64
	GrainSize          uint64
	DescriptorOffset   uint64
	DescriptorSize     uint64
	NumGTEsPerGT       uint32
	RgdOffset          uint64
	GdOffset           uint64
	OverHead           uint64
	UncleanShutdown    uint8
	SingleEndLineChar  byte
	NonEndLineChar     byte
	DoubleEndLineChar1 byte
	DoubleEndLineChar2 byte
	CompressAlgorithm  uint16
	Pad                [433]byte
}

// counter knows at which sector it is.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) sector() uint32 { return uint32(c.n / sector) }

var zeros [overhead * sector]byte

func (c *counter) pad() error {
	if rest := c.n % sector; rest != 0 {
		_, err := c.Write(zeros[:sector-rest])
		return err
	}
	return nil
}

func (c *counter) marker(kind uint32, sectors uint64) error {
	var m [sector]byte
	binary.LittleEndian.PutUint64(m[0:], sectors)
	binary.LittleEndian.PutUint32(m[12:], kind)
	_, err := c.Write(m[:])
	return err
}

// writeStream writes a disk's view; grains of zeros are left out. `cid` is the content ID of the descriptor.
func writeStream(out io.Writer, v view, name string, cid uint32) error {
	capacity := uint64((v.size() + sector - 1) / sector)
	descriptor := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"+
		"# Extent description\nRDONLY %d SPARSE %q\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n"+
		"ddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"19\"\n",
		cid, capacity, name, capacity/(255*63))
	h := header{
		Magic: 0x564d444b, Version: 3, Flags: 0x30001, Capacity: capacity, GrainSize: grainSectors, DescriptorOffset: 1,
		DescriptorSize: uint64(len(descriptor)+sector-1) / sector, NumGTEsPerGT: tableEntries, GdOffset: ^uint64(0), OverHead: overhead,
		SingleEndLineChar: '\n', NonEndLineChar: ' ', DoubleEndLineChar1: '\r', DoubleEndLineChar2: '\n', CompressAlgorithm: 1,
	}
	c := &counter{w: out}
	if err := binary.Write(c, binary.LittleEndian, &h); err != nil {
		return err
	}
	if _, err := io.WriteString(c, descriptor); err != nil {
		return err
	}
	if _, err := c.Write(zeros[:overhead*sector-c.n]); err != nil {
		return err
	}
	directory := make([]uint32, (capacity+grainSectors*tableEntries-1)/(grainSectors*tableEntries))
	table, current := make([]uint32, tableEntries), int64(-1)
	flush := func() error {
		if current < 0 {
			return nil
		}
		if err := c.marker(1, tableEntries*4/sector); err != nil {
			return err
		}
		directory[current] = c.sector()
		err := binary.Write(c, binary.LittleEndian, table)
		clear(table)
		return err
	}
	buf := make([]byte, grain)
	var packed bytes.Buffer
	z, err := zlib.NewWriterLevel(&packed, zlib.BestSpeed)
	if err != nil {
		return err
	}
	for _, g := range v.allocated() {
		n, err := v.ReadAt(buf, g*grain)
		if err != nil && err != io.EOF {
			return err
		}
		clear(buf[n:])
		if bytes.Equal(buf, zeros[:grain]) {
			continue
		}
		if t := g / tableEntries; t != current {
			if err := flush(); err != nil {
				return err
			}
			current = t
		}
		packed.Reset()
		packed.Write(make([]byte, 12))
		z.Reset(&packed)
		if _, err = z.Write(buf); err == nil {
			err = z.Close()
		}
		if err != nil {
			return err
		}
		p := packed.Bytes()
		binary.LittleEndian.PutUint64(p, uint64(g*grainSectors))
		binary.LittleEndian.PutUint32(p[8:], uint32(len(p)-12))
		table[g%tableEntries] = c.sector()
		if _, err = c.Write(p); err == nil {
			err = c.pad()
		}
		if err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	sectors := uint64(len(directory)*4+sector-1) / sector
	if err := c.marker(2, sectors); err != nil {
		return err
	}
	h.GdOffset = uint64(c.sector())
	if err := binary.Write(c, binary.LittleEndian, directory); err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	if err := c.marker(3, 1); err != nil {
		return err
	}
	if err := binary.Write(c, binary.LittleEndian, &h); err != nil {
		return err
	}
	return c.marker(0, 0)
}
