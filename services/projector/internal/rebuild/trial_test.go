package rebuild

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lotline/lotline/pkg/readmodel"
)

// rowsOf is a SKU of which each version from 2 on allocated a line, at a version, less the lines of some versions.
func rowsOf(version uint64, lacks ...uint64) *side {
	rows := readmodel.State{SKUs: []readmodel.SKURow{{SKU: "LAMP", Version: version, Available: int64(100 - version)}}}
	for v := uint64(2); v <= version; v++ {
		l := readmodel.LineRow{Line: readmodel.Line{OrderID: fmt.Sprintf("o-%d", v), SKU: "LAMP", BatchRef: "b-1", Qty: 1, Version: v}}
		lacking := false
		for _, lack := range lacks {
			lacking = lacking || lack == v
		}
		if !lacking {
			rows.Lines = append(rows.Lines, l)
		}
	}
	all := make(sides)
	all.add(&rows)
	return all.of("LAMP")
}

// looked looks at a suspect as often as it takes three times to say that it is wrong.
func looked(at ...[2]*side) *trial { return lookedEvery(wrongFor/looks, at...) }

func lookedEvery(pause time.Duration, at ...[2]*side) *trial {
	t := newTrial(2, wrongFor)
	t.suspect("LAMP", 10)
	for _, look := range at {
		if t.suspects["LAMP"] == nil {
			break
		}
		t.judge("LAMP", look[0], look[1])
		time.Sleep(pause)
	}
	return t
}

func TestTornReadsAreNotWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Inserts take long: in every look the SKU is a version ahead of its lines, another one each time.
		var torn [][2]*side
		for v := uint64(5); v < 25; v++ {
			torn = append(torn, [2]*side{rowsOf(v, v), rowsOf(v + 1)})
		}
		trial := looked(torn...)
		require.Len(t, trial.suspects, 1)
		require.False(t, trial.settled(), "nothing says that it is wrong")
		require.True(t, trial.undecided())
		// A look in which no insert is under way ends it, and so does one that came to a version that was asked for.
		trial.judge("LAMP", rowsOf(25), rowsOf(26))
		require.Empty(t, trial.suspects)
	})
}

func TestARowThatStaysWrongIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The line of version 3 is missing, and the SKU goes on.
		trial := looked([2]*side{rowsOf(5, 3, 5), rowsOf(5)}, [2]*side{rowsOf(6, 3), rowsOf(8)}, [2]*side{rowsOf(8, 3, 8), rowsOf(8)}, [2]*side{rowsOf(9, 3), rowsOf(9)})
		require.True(t, trial.settled())
		faults, all := trial.faults(1)
		require.Equal(t, 1, all)
		require.Equal(t, Fault{SKU: "LAMP", Row: "line o-3", Should: `1 in batch "b-1", in stock, since version 3`}, faults[0])
	})
}

// A block fails after SKUs were written and before lines were, and its projector waits as long as it ever does before it comes
// again.
func TestABlockThatComesAgainLateIsNotWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var half [][2]*side
		for range 12 {
			half = append(half, [2]*side{rowsOf(5, 5), rowsOf(5)})
		}
		trial := lookedEvery(time.Second, half...)
		require.False(t, trial.settled())
		require.True(t, trial.undecided(), "so that it is looked at again, even if the wait is over")
		trial.judge("LAMP", rowsOf(5), rowsOf(5))
		require.Empty(t, trial.suspects)
	})
}

func TestWhatIsBehindIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind := [2]*side{rowsOf(5), rowsOf(9)}
		trial := looked(behind, behind, behind, behind, behind)
		require.False(t, trial.settled())
		require.False(t, trial.undecided(), "it is not wrong, so the wait's end is the end")
		faults, _ := trial.faults(1)
		require.Equal(t, []Fault{{SKU: "LAMP", Is: "version 5", Should: "version 9 at least, and has not caught up"}}, faults)
		trial.judge("LAMP", rowsOf(9), rowsOf(12))
		require.Empty(t, trial.suspects, "it has come to where the write side was when it was first asked")
	})
}
