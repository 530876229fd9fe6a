module github.com/lotline/lotline/schemas

go 1.26

require (
	github.com/go-json-experiment/json v1.27.2
	google.golang.org/protobuf v1.36.12
)

tool google.golang.org/protobuf/cmd/protoc-gen-go
