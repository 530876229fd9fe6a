package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the benchmark checks must be able to fail.
func TestStockSeesWhatIsOldAndWhatGoesBack(t *testing.T) {
	start := time.Now()
	k := &stock{skus: make([]published, 2)}
	k.commit([]int{0, 0}, start) // versions 2 and 3
	k.answered(start, 0, 0, 1)
	k.answered(start.Add(freshWithin), k.told(0)[0], 0, 2)
	k.answered(start.Add(time.Hour), k.told(0)[0], 0, 3)
	k.answered(start.Add(time.Hour), k.told(1)[0], 1, 1)
	require.NoError(t, k.err())
	require.Equal(t, freshWithin, k.oldest)

	k.answered(start, 2, 0, 2) // asked before others were told of version 3
	require.NoError(t, k.err())
	k.answered(start, k.told(0)[0], 0, 2)
	require.ErrorContains(t, k.err(), "1 answers went back, 0 were older than 1s; the last one: SKU-0: 2 after 3")

	k = &stock{skus: make([]published, 1)}
	k.commit([]int{0}, start)
	k.answered(start.Add(freshWithin+time.Millisecond), 0, 0, 1)
	require.ErrorContains(t, k.err(), "0 answers went back, 1 were older than 1s")
}

func TestVersionsAreReadFromAnswersThatFit(t *testing.T) {
	const answer = `{"sku":"SKU-7","version":3,"available":999998,"batches":[{"ref":"batch","qty":1000000,"available":999998,"eta":null}]}`
	version, err := versionOf([]byte(answer), 7)
	require.NoError(t, err)
	require.EqualValues(t, 3, version)
	_, err = versionOf([]byte(answer), 8)
	require.Error(t, err)
	_, err = versionOf([]byte(`{"sku":"SKU-7","version":4,"available":999998,"batches":[]}`), 7)
	require.Error(t, err)
}
