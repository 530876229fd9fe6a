package schemas

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// fields writes protobuf by hand, also what no library would.
type fields []byte

func (f fields) text(number protowire.Number, s string) fields {
	return protowire.AppendString(protowire.AppendTag(f, number, protowire.BytesType), s)
}

func (f fields) varint(number protowire.Number, v uint64) fields {
	return protowire.AppendVarint(protowire.AppendTag(f, number, protowire.VarintType), v)
}

func (f fields) raw(s string) fields { return append(f, s...) }

func allocateProto(orderID, sku string) fields { return fields{}.text(1, orderID).text(2, sku) }

func TestDecodeProtobufAccepts(t *testing.T) {
	line := Command{Type: CommandAllocate, OrderID: "o1", SKU: "s", Qty: 3}
	withQty := func(qty int32) Command { c := line; c.Qty = qty; return c }
	for name, tt := range map[string]struct {
		contentType string
		data        fields
		want        Command
	}{
		"plain":                   {ContentTypeProtobuf, allocateProto("o1", "s").varint(3, 3), line},
		"content type parameters": {"Application/Protobuf; messageType=lotline.command.v1.Allocate", allocateProto("o1", "s").varint(3, 3), line},
		"any order":               {ContentTypeProtobuf, fields{}.varint(3, 3).text(2, "s").text(1, "o1"), line},
		"unknown fields of all kinds": {ContentTypeProtobuf, fields{}.varint(9, 1).text(1, "o1").text(1000, "\xff").raw("\x3d....").
			text(2, "s").raw("\x39........").varint(3, 3), line},
		"zero is a number":     {ContentTypeProtobuf, allocateProto("o1", "s").varint(3, 0), withQty(0)},
		"negative":             {ContentTypeProtobuf, allocateProto("o1", "s").varint(3, math.MaxUint64), withQty(-1)},
		"least":                {ContentTypeProtobuf, allocateProto("o1", "s").varint(3, 1<<64-1<<31), withQty(math.MinInt32)},
		"a varint not minimal": {ContentTypeProtobuf, allocateProto("o1", "s").raw("\x18\x83\x80\x00"), line},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeCommand(ceAllocate, tt.contentType, tt.data)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
	got, err := DecodeCommand(ceCreateBatch, ContentTypeProtobuf, fields{}.text(1, "b").text(2, "s").varint(3, 3).text(4, ""))
	require.NoError(t, err)
	require.Equal(t, Command{Type: CommandCreateBatch, Ref: "b", SKU: "s", Qty: 3}, got)
}

func TestDecodeProtobufRefuses(t *testing.T) {
	const whole = " is not a whole number from -2147483648 to 2147483647"
	long := strings.Repeat("s", 256)
	for _, tt := range []struct {
		ceType string
		data   fields
		want   string
	}{
		{ceAllocate, nil, "orderid is missing"},
		{ceAllocate, fields{}.text(1, "o1").varint(3, 1), "sku is missing"},
		{ceAllocate, allocateProto("o1", "s"), "qty is missing"},
		{"lotline.command.v1.ChangeBatchQuantity", allocateProto("b", "s"), "qty is missing"},
		{ceAllocate, allocateProto("", "s").varint(3, 1), "orderid must not be empty"},
		{ceAllocate, allocateProto("o1", long).varint(3, 1), "sku is 256 bytes; at most 255 are accepted"},
		{ceAllocate, allocateProto("o1", "a\nb").varint(3, 1), "sku contains the control character U+000A"},
		{ceAllocate, allocateProto("o\xff", "s").varint(3, 1), "orderid is not valid UTF-8"},
		{ceAllocate, allocateProto("\xed\xa0\x80", "s").varint(3, 1), "orderid is not valid UTF-8"},
		{ceAllocate, allocateProto("o1", "s").varint(3, 1).varint(3, 1), "the field qty appears twice"},
		{ceAllocate, allocateProto("o1", "s").text(2, "t").varint(3, 1), "the field sku appears twice"},
		{ceAllocate, allocateProto("o1", "s").varint(3, 1<<32+3), "qty 4294967299" + whole},
		{ceAllocate, allocateProto("o1", "s").varint(3, 1<<31), "qty 2147483648" + whole},
		{ceAllocate, allocateProto("o1", "s").varint(3, 1<<63), "qty -9223372036854775808" + whole},
		{ceAllocate, allocateProto("o1", "s").text(3, "3"), "qty must be a varint, not a string"},
		{ceAllocate, fields{}.varint(1, 1), "orderid must be a string, not a varint"},
		{ceAllocate, fields{}.raw("\x0d...."), "orderid must be a string, not a 32-bit value"},
		{ceAllocate, fields{}.raw("\x19........"), "qty must be a varint, not a 64-bit value"},
		{ceCreateBatch, allocateProto("b", "s").varint(3, 1).text(4, "2031-02-29"), `eta "2031-02-29" is not a calendar date of the form YYYY-MM-DD`},

		{ceAllocate, fields{}.raw("\x0a\x05o1"), "the protobuf ends too early, in what begins at byte 1"},
		{ceAllocate, fields{}.raw("\x18\x80"), "the protobuf ends too early, in what begins at byte 1"},
		{ceAllocate, fields{}.raw("\x80"), "the protobuf ends too early, in what begins at byte 0"},
		{ceAllocate, fields{}.raw("\xfa\x01\x03xy"), "the protobuf ends too early, in what begins at byte 2"},
		{ceAllocate, fields{}.raw("\x18" + strings.Repeat("\xff", 10)), "the data is not valid protobuf at byte 1"},
		{ceAllocate, fields{}.raw("\x00\x00"), "the data is not valid protobuf at byte 0"},
		{ceAllocate, fields{}.raw("\x0f"), "the data is not valid protobuf at byte 1"},
		{ceAllocate, allocateProto("o1", "s").raw(strings.Repeat("\x4b", 100_000)), "the protobuf has a group at byte 7, which no message here has"},
		{ceAllocate, fields{}.raw(plainAllocate), "the protobuf has a group at byte 0, which no message here has"},
		{ceAllocate, fields{}.text(9, strings.Repeat("x", MaxDataBytes)), "the data is 1048580 bytes; at most 1048576 are accepted"},
	} {
		got, err := DecodeCommand(tt.ceType, ContentTypeProtobuf, tt.data)
		require.EqualError(t, err, tt.want, "%.200q", tt.data)
		require.Zero(t, got)
	}
}

func TestDecodeProtobufEvents(t *testing.T) {
	got, err := DecodeEvent("lotline.event.v1.OutOfStock", ContentTypeProtobuf, fields{}.text(1, "s").text(3, "c").varint(6, 7).text(7, "o"))
	require.NoError(t, err)
	require.Equal(t, Event{Type: EventOutOfStock, SKU: "s", CommandID: "c", OrderID: "o", Last: true}, got, "what is left out is zero")
	_, err = DecodeEvent("lotline.event.v1.OutOfStock", ContentTypeProtobuf, fields{}.text(1, "s").text(7, "o"))
	require.EqualError(t, err, "commandid is missing")
}

// TestInvalidUTF8IsReplacedAlike: what a caller got wrong comes out the same in every encoding.
func TestInvalidUTF8IsReplacedAlike(t *testing.T) {
	c := Command{Type: CommandAllocate, OrderID: "a\xff\xfeb", SKU: "s"}
	fromJSON, err := DecodeCommand(ceAllocate, ContentTypeJSON, AppendCommand(nil, &c))
	require.NoError(t, err)
	fromProtobuf, err := DecodeCommand(ceAllocate, ContentTypeProtobuf, Protobuf.AppendCommand(nil, &c))
	require.NoError(t, err)
	require.Equal(t, "a\ufffd\ufffdb", fromJSON.OrderID)
	require.Equal(t, fromJSON, fromProtobuf)
}

func TestEncodingNames(t *testing.T) {
	for _, want := range []Encoding{JSON, Protobuf} {
		var got Encoding
		require.NoError(t, got.UnmarshalText([]byte(want.String())))
		require.Equal(t, want, got)
		require.True(t, got.Known())
	}
	require.False(t, Encoding(2).Known())
	require.EqualError(t, new(Encoding).UnmarshalText([]byte("avro")), `"avro" is not json or protobuf`)
}
