// Package harness sets up what the tests of whole nodes need: a network whose
// faults are values (fault.go, proxy.go), nodes in this process (cluster.go)
// or as processes of their own (process.go), disks that fill up or turn
// read-only (disk.go) or lose power (power.go), and an independent reading of a
// directory to compare replicas by (snapshot.go).
//
// Whatever it starts it ends in the test's Cleanup, and there it checks what
// must hold after every test: the replicas of in-sync mirrors equal the
// primary's, no goroutine and no mount is left.
package harness
