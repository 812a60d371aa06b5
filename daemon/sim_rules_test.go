// One simulated process after the other, and far too slow with the race detector.
//go:build !race

package daemon

var traces = []trace{
	{
		rule: "HotPrimary, CmpPrimaryHot", nodes: 2, liar: "A", lie: noHot,
		steps: "A dies after write; A writes r0; A starts",
	}, {
		rule: "HotMirror", nodes: 2, liar: "B", lie: noHot, rare: "B",
		steps: "A writes r0; wait; B loses power, nothing survives; B starts",
	}, {
		rule: "KeepPastCommit", nodes: 2, liar: "A", lie: noHotAfterCheckpoint, patient: true,
		steps: "cut A B; A writes r0; wait; A is killed; heal A B; A starts",
	}, {
		rule: "KeepPastJoin", nodes: 3, liar: "B", lie: noHotAfterJoin, patient: true,
		steps: "cut A C; B is killed; A writes r0; lie; B starts; B joins; wait; A is killed; B is killed; B starts; B takes over; wait",
	}, {
		rule: "KeepOutOfSync, CmpPeerHot", nodes: 2, liar: "A", lie: noHotOutOfSync,
		steps: "A dies after write; A writes r0; B takes over; cut A B; A starts as mirror; wait; A is killed; A starts as mirror; wait; A is killed; heal A B; A starts as mirror",
	}, {
		rule: "Fold, CmpPrimaryStale", nodes: 2, liar: "B", lie: noStale,
		steps: "cut A B; B takes over; B writes r0; wait; B is killed; B starts; heal A B; A is fenced; A stops; A starts as mirror",
	}, {
		rule: "FoldMirror", nodes: 3, liar: "C", lie: noStale,
		steps: "cut A B; A writes r0; wait; wait; A is killed; C is killed; C starts; B takes over; wait",
	}, {
		rule: "CommitInOrder", nodes: 3, liar: "C", lie: commitEarly, patient: true,
		steps: "cut A B; A writes r0; wait; A is killed; heal A B; B takes over; wait",
	}, {
		rule: "StaleUntilJoin", nodes: 2, liar: "A", lie: noStale,
		steps: "B is killed; A writes r0; wait; A is killed; A starts; cut A B; B starts; B dies before write; heal A B; wait; B starts",
	}, {
		rule: "ClearWhenLevel", nodes: 3, liar: "A", lie: noStaleAtOthersJoin,
		steps: "cut A B; cut A C; A writes r0; wait; wait; C is killed; B takes over; A is killed; A starts as mirror; B holds A; heal A B; wait; C starts; C joins; wait; " +
			"A is killed; B is killed; A starts as mirror; A takes over; heal A C; wait",
	}, {
		rule: "CmpPeerStale", nodes: 2, liar: "A", lie: noStale,
		steps: "cut A B; A writes r0; wait; wait; A is killed; B takes over; heal A B; A starts as mirror",
	}, {
		rule: "ExpelFirst, HelloExpels", nodes: 2,
		steps: "A is killed; A starts; A writes r0; A counts; B is killed; A counts; wait; A is killed; A starts; B starts",
	}, {
		rule: "MemberFirst", nodes: 2, liar: "B", lie: staysMember,
		steps: "B is killed; A writes r0; cut A B; B starts; B dies after put; heal A B; wait; A is killed; B starts; wait; B is refused",
	}, {
		rule: "SyncBeforeJoin", nodes: 2, liar: "B", lie: pageCache, rare: "B",
		steps: "B is killed; A counts; A writes r0; B starts; B joins; B loses power, nothing survives; B starts",
	}, {
		rule: "an ack of a barrier (6)", nodes: 2, liar: "B", lie: early, rare: "B",
		steps: "A counts; B loses power, nothing survives; B starts",
	}, {
		rule: "SetBeforeMember", nodes: 3,
		steps: "cut A C; B is killed; A writes r0; B starts; B joins; A is killed; B takes over; wait",
	}, {
		rule: "NewLine", nodes: 2, liar: "A", lie: oldLine,
		steps: "lie; A is killed; A starts; B joins; cut A B; A writes r0; A is killed; A starts; A writes r1; A writes r2; A writes r1; A writes r2; heal A B",
	}, {
		rule: "PromotePersist", nodes: 2, liar: "B", lie: staysMirror,
		steps: "cut A B; B takes over; B counts; B is killed; B starts; heal A B; wait",
	}, {
		rule: "EpochPersist, RefuseLower", nodes: 3, liar: "C", lie: oldEpoch,
		steps: "cut A B; cut A C; B takes over; B counts; C joins; C is killed; cut B C; C starts; heal A C; wait; A is fenced",
	},
	{
		rule: "EpochOwner", nodes: 2, liar: "A", lie: othersEpoch,
		steps: "cut A B; A is killed; B takes over; A starts as mirror; A takes over; A is killed; A starts as primary; heal A B; A or B is fenced",
	}, {
		rule: "RestartNotHigher", nodes: 3, liar: "A", lie: higherRestart, min: 1,
		steps: "cut A B; cut A C; A is killed; A starts; A is killed; A starts; B is asked; B counts; heal A B; heal A C; A is fenced",
	}, {
		rule: "Archive", nodes: 2, liar: "A", lie: unarchived,
		steps: "cut A B; A counts; B takes over; heal A B; A is fenced; A stops; A starts as mirror; A joins",
	}, {
		rule: "ArchiveDurable", nodes: 2, liar: "A", lie: noArchiving,
		steps: "cut A B; A counts; B takes over; heal A B; A is fenced; A is killed; A starts as mirror; A joins",
	}, {
		rule: "ArchiveAny", nodes: 3, liar: "B", lie: onlyDeposedArchives,
		steps: "cut A C; A counts; A is killed; wait; B dies after record; C takes over; B starts; B joins",
	}, {
		rule: "AskOthers", nodes: 3, liar: "B", lie: noOthers, min: 1,
		steps: "cut A B; A counts; A is killed; cut B C; B is killed; B starts; B is asked",
	}, {
		rule: "FenceOthers", nodes: 3, liar: "C", lie: oldEpoch, min: 1,
		steps: "cut A B; cut A C; B is asked; C is killed; cut B C; C starts; heal A C; A tries to count; A is fenced",
	}, {
		rule: "RecordHeld", nodes: 3, liar: "C", lie: forgetsExpulsions, min: 1,
		steps: "cut A B; A counts; A is killed; C is killed; C starts; B is asked",
	}, {
		rule: "RecordHeld, by one that dies before it records", nodes: 3, min: 1,
		steps: "cut A B; C dies before record; A tries to count; A is killed; C starts; B is asked",
	},
}
