// Command projector keeps the read model in ClickHouse up to date with the events topic.
package main

import (
	"github.com/lotline/lotline/pkg/lifecycle"

	"github.com/lotline/lotline/services/projector"
)

func main() {
	lifecycle.Main("projector", "Writes events from Kafka to the read model in ClickHouse.", projector.Run)
}
