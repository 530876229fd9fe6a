package trial

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Half of the commands are each producer's, and only SKUs that are to be shared come over two partitions, nearly all of them.
func TestMixedProducersShareSomeSKUs(t *testing.T) {
	const skus, commands = 1000, 20_000
	for _, row := range mixedRows(skus) {
		w := row.New(commands, 1)
		over, crc := make(map[string]map[int32]bool), 0
		for i := range w.Commands {
			c := &w.Commands[i]
			if over[c.SKU] == nil {
				over[c.SKU] = make(map[int32]bool)
			}
			over[c.SKU][w.Partition(c, w.Partitions)] = true
			if w.Mixed.crc32(c, skus) {
				crc++
			}
		}
		require.InDelta(t, commands/2, crc, commands/50, row.Name)
		for i := range w.Setup {
			c := &w.Setup[i]
			require.True(t, over[c.SKU][w.Partition(c, w.Partitions)], "the batch of %s comes the way of half of its orders or more", c.SKU)
		}
		var shared []string
		for sku, partitions := range over {
			require.LessOrEqual(t, len(partitions), 2, sku)
			if len(partitions) == 2 {
				shared = append(shared, sku)
			}
		}
		want := skus * row.Mixed.SharedPercent / 100
		require.InDelta(t, want*11/12, len(shared), float64(want)/10, "the hashes agree on one in twelve")
		for _, sku := range shared {
			require.Less(t, sku, skuName(want))
		}
	}
}

// A key goes where librdkafka and the Java client would send it.
func TestPartitionsAreThoseOfTheProducers(t *testing.T) {
	w := &Work{Row: Row{SKUs: 2, Mixed: &Mixed{}}}
	for sku, want := range map[string]int32{
		"SKU-000000": 246132628, // murmur2 with Kafka's seed, without its sign, modulo 2^30
		"SKU-000001": 557971914, // zlib's CRC32 modulo 2^30
	} {
		c := Command{ID: "batch"}
		c.SKU = sku
		require.Equal(t, want, w.Partition(&c, 1<<30), sku)
	}
}
