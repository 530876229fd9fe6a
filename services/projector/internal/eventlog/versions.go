package eventlog

import "hash/maphash"

// Size of what is remembered of SKUs: 2^18 groups of 8, at 16 bytes, are 32 MiB; of a million SKUs about one in fifty has no
// place. Memory that no SKU has used yet is not taken from the machine.
const (
	versionGroups = 1 << 18
	versionsEach  = 8
)

// versions remembers the newest version that was read of each SKU, of as many as it has room for: in a group of SKUs the
// one that came last is first, and pushes out the last. Two SKUs are taken for one if their 64 bits of hash are equal, for
// which a million have a chance of one in 10^7; then a hole is looked for that is not there. Not safe for concurrent use.
type versions struct {
	seed   maphash.Seed
	groups [][versionsEach]versionEntry
	used   bool
}

type versionEntry struct {
	hash, version uint64 // version 0: no entry
}

func newVersions(groups int) *versions {
	return &versions{seed: maphash.MakeSeed(), groups: make([][versionsEach]versionEntry, groups)}
}

// see notes a version and returns the newest before it: 0 if the SKU is not known.
func (v *versions) see(sku string, version uint64) (before uint64) {
	hash := maphash.String(v.seed, sku)
	group := &v.groups[hash%uint64(len(v.groups))]
	at := versionsEach - 1
	for i := range group {
		if group[i].version == 0 || group[i].hash == hash {
			at = i
			break
		}
	}
	if group[at].hash == hash {
		before = group[at].version
	}
	v.used = true
	copy(group[1:at+1], group[:at])
	group[0] = versionEntry{hash, max(version, before)}
	return before
}

// forget forgets all.
func (v *versions) forget() {
	if v.used { // clearing would take all of the memory from the machine
		clear(v.groups)
		v.used = false
	}
}
