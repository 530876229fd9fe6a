package deadletters

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestATransactionIsFullOfWhateverADeadLetterHas: two that have half of what it may hold each are a transaction, wherever they have it.
func TestATransactionIsFullOfWhateverADeadLetterHas(t *testing.T) {
	client, err := kgo.NewClient() // of no transactions: it refuses the first that is begun
	require.NoError(t, err)
	defer client.Close()
	half := make([]byte, transactionBytesMax/2)
	for name, letter := range map[string]Letter{
		"key":              {Key: half},
		"value":            {Value: half},
		"a header's key":   {Headers: []kgo.RecordHeader{{Key: string(half)}}},
		"a header's value": {Headers: []kgo.RecordHeader{{Value: half}}},
		"empty headers":    {Headers: make([]kgo.RecordHeader, transactionBytesMax/2/headerBytes+1)},
	} {
		t.Run(name, func(t *testing.T) {
			a := answering{client: client, topic: Topic{Commands: "commands"}, mark: Mark{Status: Replayed}, partitions: 1}
			letter.Topic = "commands"
			require.NoError(t, a.add(t.Context(), &letter))
			require.ErrorContains(t, a.add(t.Context(), &letter), "begin the transaction")
		})
	}
}
