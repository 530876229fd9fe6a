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

// busy is a SKU that goes on and on. Version 2 allocated line o-1 of batch b-1, whose row is of another version. A line without
// a batch is as the write side tells it that is asked for it by name.
func busy(version uint64, allocated bool, batchVersion uint64) *side {
	line := readmodel.LineRow{Line: readmodel.Line{OrderID: "o-1", SKU: "LAMP", BatchRef: "b-1", Qty: 1, Version: 2}}
	if !allocated {
		line.BatchRef, line.Version = "", 3
	}
	all := make(sides)
	all.add(&readmodel.State{
		SKUs:    []readmodel.SKURow{{SKU: "LAMP", Version: version, Available: int64(version)}},
		Batches: []readmodel.BatchRow{{SKU: "LAMP", Batch: readmodel.Batch{Ref: "b-1", Qty: 1000, Available: int32(batchVersion), Version: batchVersion}}},
		Lines:   []readmodel.LineRow{line},
	})
	return all.of("LAMP")
}

// The generation never got version 3, which took line o-1 out of its batch. It is some versions behind at each look, and one
// of those might be the one that it lacks: but then the line would have had its batch when the looks began.
func TestABusySKUHidesNoLostDeallocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks [][2]*side
		for v := uint64(100); v < 200; v += 10 {
			looks = append(looks, [2]*side{busy(v-5, true, v-5), busy(v, false, v)})
		}
		trial := looked(looks...)
		require.True(t, trial.settled())
		faults, all := trial.faults(1)
		require.Equal(t, 1, all)
		require.Equal(t, Fault{SKU: "LAMP", Row: "line o-1", Is: `1 in batch "b-1", in stock, since version 2`, at: 2}, faults[0])
	})
}

// The same where every other look finds the SKU caught up.
func TestALostDeallocationIsTheSameFaultBehindOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks [][2]*side
		for v := uint64(100); v < 140; v += 10 {
			looks = append(looks, [2]*side{busy(v, true, v), busy(v, false, v)}, [2]*side{busy(v+5, true, v+5), busy(v+7, false, v+7)})
		}
		trial := looked(looks...)
		require.True(t, trial.settled())
		faults, all := trial.faults(1)
		require.Equal(t, 1, all)
		require.Equal(t, "line o-1", faults[0].Row)
	})
}

// The same of a batch: nothing of it was written since version 3 was lost, and on the write side nothing changed it later.
func TestABusySKUHidesNoStaleBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks [][2]*side
		for v := uint64(100); v < 200; v += 10 {
			looks = append(looks, [2]*side{busy(v-5, false, 2), busy(v, false, 3)})
		}
		trial := looked(looks...)
		require.True(t, trial.settled())
		faults, all := trial.faults(1)
		require.Equal(t, 1, all)
		require.Equal(t, "batch b-1", faults[0].Row)
	})
}

// Line o-1 loses its batch while the looks go on, before the generation has heard of it, and the batch changes with each version.
func TestABusySKUThatIsRightIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trial := looked(
			[2]*side{busy(95, true, 95), busy(100, true, 100)},
			[2]*side{busy(105, true, 95), busy(110, false, 110)},  // past the mark; the line and the batch are in doubt
			[2]*side{busy(108, true, 107), busy(112, false, 112)}, // not at 110 yet
		)
		require.Len(t, trial.suspects, 1)
		require.False(t, trial.settled())
		trial.judge("LAMP", busy(115, false, 113), busy(120, false, 120))
		require.Empty(t, trial.suspects)
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
