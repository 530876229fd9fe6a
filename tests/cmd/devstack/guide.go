package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/template"

	"github.com/lotline/lotline/schemas"
	"github.com/lotline/lotline/tests/stack"
	"github.com/lotline/lotline/topics"
)

// endpoints is endpoints.json, for tools that work on a running stack. The Postgres URL carries the password.
type endpoints struct {
	Gateway          string `json:"gateway"`
	Kafka            string `json:"kafka"`
	ClickHouseHTTP   string `json:"clickhouse_http"`
	ClickHouseNative string `json:"clickhouse_native"`
	Postgres         string `json:"postgres"`
}

// write replaces the file in one step: who finds it finds all of it.
func (e endpoints) write(file string) error {
	text, err := json.MarshalIndent(e, "", "  ")
	if err == nil {
		err = errors.Join(os.WriteFile(file+".new", append(text, '\n'), 0o600), os.Rename(file+".new", file))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

var guideText = template.Must(template.New("guide").Parse(`
Lotline is running. Ctrl-C stops it; the data stays.

  console     {{.At.Gateway}}/ in a browser, to watch what happens
  gateway     {{.At.Gateway}}
  Kafka       {{.At.Kafka}}
  ClickHouse  {{.At.ClickHouseHTTP}} and {{.At.ClickHouseNative}} (native), database {{.Database}}
  Postgres    {{.PostgresAddr}}, database {{.Database}}
  health      http://{{.Services.Allocator.AdminAddr}}/readyz (allocator), http://{{.Services.Projector.AdminAddr}}/readyz (projector), http://{{.Services.Gateway.AdminAddr}}/readyz (gateway)
  all of it   {{.File}}, with the Postgres password

A batch and an order line by hand; the key is the SKU:

  echo '{"ref":"batch-by-hand","sku":"GREEN-CHAIR","qty":10,"eta":null}' | kcat -P -b {{.At.Kafka}} -t {{.Topics.Commands.Name}} -X partitioner=murmur2_random -k GREEN-CHAIR -H ce_id=by-hand-1 -H ce_source=/kcat -H ce_type={{.CreateBatch}}
  echo '{"orderid":"order-by-hand","sku":"GREEN-CHAIR","qty":3}' | kcat -P -b {{.At.Kafka}} -t {{.Topics.Commands.Name}} -X partitioner=murmur2_random -k GREEN-CHAIR -H ce_id=by-hand-2 -H ce_source=/kcat -H ce_type={{.Allocate}}

What was decided, as events:

  kcat -C -q -e -b {{.At.Kafka}} -t {{.Topics.Events.Name}} -X isolation.level=read_committed -f '%k %s\n'

The answer, from the gateway and from ClickHouse:

  curl -s {{.At.Gateway}}/allocations/order-by-hand
  curl -s {{.At.Gateway}}/commands/by-hand-2
  curl -s '{{.At.ClickHouseHTTP}}/?database={{.Database}}' --data-binary "SELECT * FROM order_lines FINAL WHERE orderid = 'order-by-hand' FORMAT Vertical"

The same over HTTP:

  curl -si {{.At.Gateway}}/add_batch -H 'Content-Type: application/json' -d '{"ref":"batch-by-http","sku":"GREEN-CHAIR","qty":10,"eta":null}'
  curl -si {{.At.Gateway}}/allocate -H 'Content-Type: application/json' -d '{"orderid":"order-by-http","sku":"GREEN-CHAIR","qty":2}'

`))

// guide prints addresses, and lines to copy.
func guide(out io.Writer, at endpoints, services stack.Config, postgresAddr, file string) error {
	err := guideText.Execute(out, struct {
		At                           endpoints
		Services                     stack.Config
		Topics                       topics.Set
		Database, PostgresAddr, File string
		CreateBatch, Allocate        string
	}{
		at, services, topics.Declared(topicPrefix), database, postgresAddr, file,
		schemas.CommandCreateBatch.CEType(), schemas.CommandAllocate.CEType(),
	})
	if err != nil {
		return fmt.Errorf("print the guide: %w", err)
	}
	return nil
}
