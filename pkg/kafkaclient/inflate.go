package kafkaclient

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What a producer sends may take far more memory than room on the wire: a kilobyte inflates to megabytes, and seven bytes
// are a record, for which the client keeps a struct. So the compressed batches that all clients of a process hold at once
// share one bound. What is beyond it is left on the broker and fetched again once there is room.
const (
	inflatedMax   = 128 << 20 // of all batches of a process
	inflatedExtra = 48 << 20  // of one, beside its bytes; one with more is refused like one that inflates too far
	recordBytes   = 256       // what the client allocates for a record beside its bytes, rounded up
	headerBytes   = 48        // and for a header
	roomWait      = 100 * time.Millisecond
	roomLook      = 5 * time.Millisecond
)

// errNoRoom leaves a partition where it is. The client tries again by itself what Kafka calls retriable.
var errNoRoom = fmt.Errorf("the batches held already take all the memory they may: %w", kerr.ThrottlingQuotaExceeded)

// room counts the memory of inflated batches, until the garbage collector has taken them back: as long as anybody holds
// a record, its batch is there.
type room struct {
	mu   sync.Mutex
	max  int64
	used int64
}

func (r *room) tryTake(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used+n > r.max {
		return false
	}
	r.used += n
	return true
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
}

// take waits a moment for what the garbage collector finds. It must not wait for long: the fetch that asks may hold what
// it waits for.
func (r *room) take(n int64) bool {
	if r.tryTake(n) {
		return true
	}
	runtime.GC()
	for deadline := time.Now().Add(roomWait); time.Now().Before(deadline); time.Sleep(roomLook) {
		if r.tryTake(n) {
			return true
		}
	}
	return false
}

// inflater is the client's own decompressor within bounds. It is safe for concurrent use.
type inflater struct {
	inner kgo.Decompressor
	most  int64 // bytes of a batch
	room  *room
}

// shared is the room of all clients of a process.
var shared = &room{max: inflatedMax}

func newInflater(most int) *inflater {
	// The client bounds the decompressor that it makes for itself, and only that one.
	client, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(most))
	if err != nil {
		panic(err) // a fault of the line above, which every start would see
	}
	defer client.Close()
	return &inflater{inner: client.OptValue(kgo.WithDecompressor).(kgo.Decompressor), most: int64(most), room: shared}
}

// inflate is what clients do their work with.
var inflate = sync.OnceValue(func() *inflater { return newInflater(maxDecompressBatchBytes) })

// inflateLetters is for dead letters: a command that just inflates within its bound has headers beside that, as a dead letter.
var inflateLetters = sync.OnceValue(func() *inflater { return newInflater(2 * maxDecompressBatchBytes) })

// ReadsDeadLetters lets a client read batches of twice the size; it goes after Opts. One that could not be read would hide all that
// come after it.
func ReadsDeadLetters() kgo.Opt { return kgo.WithDecompressor(inflateLetters()) }

// Decompress implements kgo.Decompressor.
func (i *inflater) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	// What it will take is known afterwards.
	taken := i.most
	if !i.room.take(taken) {
		return nil, errNoRoom
	}
	out, err := i.inner.Decompress(src, codec)
	if err != nil || cap(out) < 64 { // small ones share their memory with others, and it is never said when they go
		i.room.give(taken)
		return out, err
	}
	weight := weigh(out)
	switch more := weight - taken; {
	case weight > i.most+inflatedExtra:
		i.room.give(taken)
		return nil, fmt.Errorf("its records would take %d MiB of memory: %w", weight>>20, kgo.ErrMaxDecompress)
	case more > 0 && !i.room.take(more):
		i.room.give(taken)
		return nil, errNoRoom
	case more < 0:
		i.room.give(-more)
	}
	runtime.AddCleanup(&out[:1][0], i.room.give, weight)
	return out, nil
}

// weigh is the memory that a batch takes once its records are read: bytes that claim to be records are believed no
// further than they reach.
func weigh(batch []byte) int64 {
	weight := int64(cap(batch))
	for len(batch) > 0 {
		length, n := binary.Varint(batch)
		if n <= 0 || length < 0 || length > int64(len(batch)-n) {
			break
		}
		record := batch[n : n+int(length)]
		batch = batch[n+int(length):]
		weight += recordBytes + headerBytes*headers(record)
	}
	return weight
}

// headers is how many headers a record claims, and has room for.
func headers(record []byte) int64 {
	if len(record) == 0 {
		return 0
	}
	record = record[1:]                                         // attributes
	for _, sized := range [...]bool{false, false, true, true} { // time, offset, key, value
		v, n := binary.Varint(record)
		if n <= 0 {
			return 0
		}
		record = record[n:]
		if sized && v > 0 {
			if v > int64(len(record)) {
				return 0
			}
			record = record[v:]
		}
	}
	claimed, n := binary.Varint(record)
	if n <= 0 || claimed < 0 {
		return 0
	}
	return min(claimed, int64(len(record)-n)/2)
}
