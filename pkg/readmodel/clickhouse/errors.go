package clickhouse

import (
	"errors"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/lotline/lotline/pkg/readmodel"
)

// ClickHouse's codes, by what they ask for. A code that is in neither list is an outage: it is tried again as it is.
var (
	refusals = []int32{
		6,   // CANNOT_PARSE_TEXT
		27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
		38,  // CANNOT_PARSE_DATE
		41,  // CANNOT_PARSE_DATETIME
		69,  // ARGUMENT_OUT_OF_BOUND
		70,  // CANNOT_CONVERT_TYPE
		72,  // CANNOT_PARSE_NUMBER
		117, // INCORRECT_DATA
		131, // TOO_LARGE_STRING_SIZE
		321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
		395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
		407, // DECIMAL_OVERFLOW
		469, // VIOLATED_CONSTRAINT
		691, // UNKNOWN_ELEMENT_OF_ENUM
	}
	overloads = []int32{
		202, // TOO_MANY_SIMULTANEOUS_QUERIES
		241, // MEMORY_LIMIT_EXCEEDED
		252, // TOO_MANY_PARTS
		439, // CANNOT_SCHEDULE_TASK
		745, // SERVER_OVERLOADED
	}
)

// classify says of an insert's error what it asks for.
func classify(err error) error {
	var exception *clickhouse.Exception
	switch {
	case !errors.As(err, &exception):
		return err
	case slices.Contains(refusals, exception.Code):
		return &readmodel.RefusedError{Err: err}
	case slices.Contains(overloads, exception.Code):
		return &readmodel.OverloadedError{Err: err}
	default:
		return err
	}
}
