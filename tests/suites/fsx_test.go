package suites

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/standbyfs/standbyfs/tests/seed"
)

// fsxConfigs are what fsx does: with files of many pages and of few, where most
// of what happens is at their end, and with mappings that are written back at
// once and some time.
var fsxConfigs = map[string]string{
	"large": "flen = 300000\nnomsyncafterwrite = true\nopsize = {min = 1, max = 70000}\n",
	"small": "flen = 20000\nnomsyncafterwrite = true\nopsize = {min = 1, max = 5000}\n",
	"msync": "flen = 100000\nopsize = {min = 1, max = 20000}\n",
}

const fsxWeights = `
[weights]
close_open = 1.0
invalidate = 1.0
mapread = 10.0
mapwrite = 10.0
read = 10.0
write = 10.0
truncate = 8.0
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 3.0
punch_hole = 5.0
sendfile = 5.0
posix_fadvise = 3.0
copy_file_range = 5.0
`

// TestFsx runs the crate of that name: random changes of one file by all calls
// that change data, each read compared with what there has to be. The files
// stay, for the replicas to be compared.
func TestFsx(t *testing.T) {
	on(t, []kind{null, mirrored, barrier}, func(t *testing.T, p place) {
		first := seed.New(t)
		for name, config := range fsxConfigs {
			path := filepath.Join(t.TempDir(), name+".toml")
			if err := os.WriteFile(path, []byte(config+fsxWeights), 0o644); err != nil {
				t.Fatal(err)
			}
			for i := range *times {
				seed := fmt.Sprint(first + uint64(i))
				out, code := p.program(t, 5*time.Minute, installed(t, "fsx"), "-q", "-f", path, "-S", seed, "-N", "3000",
					"-P", t.TempDir(), filepath.Join(p.dir, name+seed))
				if code != 0 {
					t.Errorf("fsx %s with seed %s: exit code %d\n%s", name, seed, code, out)
				}
			}
		}
	})
}
