package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknownPeersAreNamed(t *testing.T) {
	f := flags{Only: []string{"Watermill", "Flink"}, Rounds: 1, Commands: 20, SKUs: 1, Rate: 4}
	require.EqualError(t, f.Validate(), "nobody is named Flink; there are: Lotline; by hand; Watermill; Kafka Streams at 100 ms; Kafka Streams at 20 ms")
	f.Only = nil
	require.NoError(t, f.Validate())
}
