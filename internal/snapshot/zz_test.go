package snapshot
import ("testing";"fmt";"github.com/cilium/ebpf")
func BenchmarkZZ(b *testing.B) {
	for _, br := range []int{64, 256,1000, 4000,16000, 64000, 1000000} {
	for _, typ := range hashes { for _, rows := range []int{1000000} {
		b.Run(fmt.Sprintf("%d/%v/%d",br,typ,rows), func(b *testing.B) {
		c := newSwapped(b, typ, rows, 1)
		table := c.table(b, WithBatchRows(br))
		fn := func(r Rows) error { for i := range r.N { sink += uint64(r.Value(i)[0]) }; return nil }
		b.ResetTimer()
		for i := range b.N {
			b.StopTimer()
			fillRows(b, c.inner[i%2], rows)
			b.StartTimer()
			if err := table.Read(b.Context(), fn); err != nil { b.Fatal(err) }
		}
		})
	}}
	}
	_ = ebpf.Hash
}
