// Command gateway runs Lotline's HTTP gateway; see --help.
package main

import (
	"github.com/lotline/lotline/pkg/lifecycle"
	"github.com/lotline/lotline/services/gateway"
)

func main() {
	lifecycle.Main("gateway", "Turns HTTP requests into Lotline's commands, and answers questions from its read model.", gateway.Run)
}
