// Command projector keeps the read model up to date with the events topic.
package main

import (
	"github.com/lotline/lotline/pkg/lifecycle"

	"github.com/lotline/lotline/services/projector"
)

func main() {
	lifecycle.Main("projector", "Writes events from Kafka to the read model: ClickHouse, or the store that --read-model names.", projector.Run)
}
