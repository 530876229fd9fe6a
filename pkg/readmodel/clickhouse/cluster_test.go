package clickhouse

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func rendered(t *testing.T, c Cluster) map[string]string {
	t.Helper()
	files, err := fs.Sub(embedded, "migrations")
	require.NoError(t, err)
	files, err = c.render(files)
	require.NoError(t, err)
	names, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	all := make(map[string]string)
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		all[name] = string(text)
	}
	return all
}

var (
	created = regexp.MustCompile(`CREATE TABLE IF NOT EXISTS (\w+)`)
	altered = regexp.MustCompile(`ALTER TABLE (\w+)`)
	engine  = regexp.MustCompile(`\bENGINE = ([^\n]+)`)
)

// engines returns the tables that migrations create, with their engines.
func engines(migrations map[string]string) map[string]string {
	found := make(map[string]string)
	for _, text := range migrations {
		for statement := range strings.SplitSeq(text, ";\n") {
			if table := created.FindStringSubmatch(statement); table != nil {
				found[table[1]] = engine.FindStringSubmatch(statement)[1]
			}
		}
	}
	return found
}

// Replicated tables need ClickHouse Keeper, which no test has, so that this is all that is known of them here: what
// their statements say. Those of the other layouts are run by servers.
func TestTheSameTablesOnOneHostAndOnClusters(t *testing.T) {
	one := engines(rendered(t, Cluster{}))
	require.Equal(t, "ReplacingMergeTree(version, is_deleted)", one["order_lines_g1"])
	require.Equal(t, "ReplacingMergeTree", one["batches_by_ref_g1"])
	require.Equal(t, "Alias(order_lines_g1)", one["order_lines"])

	const path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
	for replicated, want := range map[bool][2]string{
		false: {"ReplacingMergeTree(version, is_deleted)", "ReplacingMergeTree"},
		true:  {"ReplicatedReplacingMergeTree(" + path + ", version, is_deleted)", "ReplicatedReplacingMergeTree(" + path + ")"},
	} {
		migrations := rendered(t, Cluster{Cluster: "two", Replicated: replicated})
		spread := engines(migrations)
		require.Equal(t, want, [2]string{spread["order_lines_g1_local"], spread["batches_by_ref_g1_local"]})
		require.Equal(t, "Distributed('two', currentDatabase(), 'order_lines_g1_local', cityHash64(orderid))", spread["order_lines_g1"])
		for table, is := range one {
			if strings.HasPrefix(is, "Alias") {
				require.Equal(t, is, spread[table])
				continue
			}
			require.Contains(t, spread, table+"_local")
			require.Regexp(t, "^Distributed", spread[table])
		}
		for name, text := range migrations {
			// A view that is fed by inserts sees those of its own host, into the table that has them.
			require.NotRegexp(t, `(?s)MATERIALIZED VIEW[^;]*FROM events\b`, text, name)
			for _, table := range altered.FindAllStringSubmatch(text, -1) {
				require.Regexp(t, "_local$", table[1], name)
			}
		}
	}
}

func TestAClustersNameIsNoSQL(t *testing.T) {
	require.NoError(t, Cluster{}.Validate())
	require.NoError(t, Cluster{Cluster: "eu-1_a"}.Validate())
	require.ErrorContains(t, Cluster{Cluster: "a', b"}.Validate(), "--clickhouse-cluster")
}

// A generation is written as the migrations wrote the first one, in each layout: of replicated tables this is all that is
// known here.
func TestAGenerationIsWrittenAsTheFirstWasMigrated(t *testing.T) {
	for _, c := range []Cluster{{}, {Cluster: "two"}, {Cluster: "two", Replicated: true}} {
		var migrated []string
		for _, text := range rendered(t, c) {
			for statement := range strings.SplitSeq(text, ";\n") {
				statement = comments.ReplaceAllLiteralString(statement, "")
				if strings.Contains(statement, "_g1") && !strings.Contains(statement, "Alias(") {
					migrated = append(migrated, strings.TrimSpace(statement))
				}
			}
		}
		g := &Generations{shape: shape}
		tables, views, err := g.statements(c, 1)
		require.NoError(t, err)
		require.Len(t, views, 4)
		require.ElementsMatch(t, migrated, append(tables, views...))

		tables, views, err = g.statements(c, 2)
		require.NoError(t, err)
		next := strings.Join(append(tables, views...), ";\n")
		require.NotContains(t, next, "_g1")
		require.Equal(t, c.Replicated, strings.Contains(next, "ENGINE = ReplicatedReplacingMergeTree("))
	}
	const path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
	kept := marksTables(Cluster{Cluster: "two", Replicated: true}, 2)
	require.Len(t, kept, 2)
	require.Contains(t, kept[0][0], "EXISTS rebuild_g2_local ")
	require.Contains(t, kept[0][0], "ENGINE = ReplicatedReplacingMergeTree("+path+", at) ORDER BY name")
	require.Contains(t, kept[1][0], "ENGINE = Distributed('two', currentDatabase(), 'rebuild_g2_local', cityHash64(name))")
}

var comments = regexp.MustCompile(`(?m)^--.*\n`)
