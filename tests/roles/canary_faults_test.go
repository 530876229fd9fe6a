//go:build integration

package roles

import (
	"strings"
)

// fault is a way to fail, and what is then said.
type fault struct {
	name, says string
	change     map[string]string
	ends       bool // the process ends by itself
}

func (c *canary) postgresFaults() []fault {
	urls := func(u string) map[string]string {
		return map[string]string{"LOTLINE_POSTGRES_URL": u, "LOTLINE_POSTGRES_PASSWORD_FILE": ""}
	}
	file := map[string]string{"LOTLINE_POSTGRES_URL_FILE": secretFile(c.T, "postgres://u:"+c.word+"@127.0.0.1:port/x"), "LOTLINE_POSTGRES_PASSWORD_FILE": ""}
	return []fault{
		{"password refused", "password authentication failed", map[string]string{"LOTLINE_POSTGRES_URL": strings.Replace(c.as("postgres"), "?", "?application_name=x&", 1)}, false},
		{"server away", "refused", map[string]string{"LOTLINE_POSTGRES_URL": "postgres://u@" + nobody + "/x?sslmode=disable"}, false},
		{"password in URL, server away", "refused", urls("postgres://u:" + c.word + "@" + nobody + "/x?sslmode=disable"), false},
		{"password in keywords, server away", "refused", urls("host=127.0.0.1 port=1 user=u password=" + c.word + " sslmode=disable"), false},
		{"no TLS", "no encryption", map[string]string{"LOTLINE_POSTGRES_URL": strings.Replace(c.env["LOTLINE_POSTGRES_URL"], "verify-full", "disable", 1)}, false},
		{"another authority", "unknown authority", map[string]string{"LOTLINE_POSTGRES_URL": c.env["LOTLINE_POSTGRES_URL"][:strings.Index(c.env["LOTLINE_POSTGRES_URL"], "&sslrootcert")] + "&sslrootcert=system"}, false},
		{"URL with a bad port", "is not of the form", urls("postgres://u:" + c.word + "@127.0.0.1:port/x"), true},
		{"URL with a / in the password", "is not of the form", urls("postgres://u:1/" + c.word + "@127.0.0.1/x"), true},
		{"URL with a % in the password", "is not of the form", urls("postgres://u:%zz" + c.word + "@127.0.0.1/x"), true},
		{"URL with two @", "", urls("postgres://u:a@" + c.word + "@127.0.0.1:x/x"), true},
		{"open quote in keywords", "is not of the form", urls("host=127.0.0.1 password='" + c.word), true},
		{"bad URL in a file", "is not of the form", file, true},
		{"password twice", "given twice", map[string]string{"LOTLINE_POSTGRES_URL": "postgres://u:" + c.word + "@" + nobody + "/x"}, true},
		{"password is a directory", "is a directory", map[string]string{"LOTLINE_POSTGRES_PASSWORD_FILE": c.TempDir()}, true},
	}
}

func (c *canary) clickHouseFaults() []fault {
	return []fault{
		{"ClickHouse password refused", "authentication failed", map[string]string{"LOTLINE_CLICKHOUSE_USER": "stranger"}, false},
		{"ClickHouse away", "refused", map[string]string{"LOTLINE_CLICKHOUSE_ADDRS": nobody}, false},
		{"ClickHouse without rights", "not enough privileges", map[string]string{"LOTLINE_CLICKHOUSE_USER": "lotline_bi"}, false},
		{"ClickHouse without TLS", "first record does not look like a tls handshake", map[string]string{"LOTLINE_CLICKHOUSE_TLS": "true"}, false},
		{"ClickHouse authority that is a password", "no certificate in pem form", map[string]string{"LOTLINE_CLICKHOUSE_TLS_CA_FILE": c.env["LOTLINE_CLICKHOUSE_PASSWORD_FILE"]}, true},
		{"ClickHouse address that is none", "is not an address", map[string]string{"LOTLINE_CLICKHOUSE_ADDRS": "x"}, true},
	}
}

func (c *canary) kafkaFaults() []fault {
	return []fault{
		{"Kafka away", "unable to open connection to broker", map[string]string{"LOTLINE_KAFKA_BROKERS": nobody}, false},
		{"Kafka address that is none", "is not an address", map[string]string{"LOTLINE_KAFKA_BROKERS": "x"}, true},
		{"Kafka mechanism that is none", "mechanism", map[string]string{"LOTLINE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-1"}, true},
		{"Kafka authority that is a password", "--kafka-tls-ca-file", map[string]string{"LOTLINE_KAFKA_TLS_CA_FILE": c.env["LOTLINE_KAFKA_SASL_PASSWORD_FILE"]}, true},
		// The last: the allocator and the projector take half a minute to say so.
		{"Kafka password refused", "eof", map[string]string{"LOTLINE_KAFKA_SASL_USERNAME": "stranger"}, false},
	}
}

// telemetryFaults are in the variables that OpenTelemetry's SDK reads by itself.
func (c *canary) telemetryFaults() []fault {
	traced := func(variable, value string) map[string]string {
		return map[string]string{"LOTLINE_OTLP_ENDPOINT": "http://" + nobody, variable: value}
	}
	return []fault{
		{"traces with a header that is none", "cannot be read", traced("OTEL_EXPORTER_OTLP_HEADERS", "Authorization Bearer "+c.word), true},
		{"traces with a header that is badly encoded", "cannot be read", traced("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key="+c.word+"%zz"), true},
		{"traces with an unused endpoint that is none", "", traced("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:"+c.word+"@127.0.0.1:port"), false},
	}
}
