import Glibc
import Linux
import Vocabulary

/// Reads and writes ``AddressSet``s of the network namespace the calling thread is in. Every change says what differs;
/// nothing is ever flushed (redirection.md, limit 5).
struct AddressSets: ~Copyable {
  private var session: NetlinkSession

  /// `IPSET_ERR_EXIST`: at a removal, that the element is not there.
  private static let missingElement: CInt = 4103

  /// Throws ``RedirectionError``.
  init() throws(RedirectionError) { session = try NetlinkSession(.netfilter) }

  /// Makes the set if it is not there. True when it was made. Throws ``RedirectionError/setsMissing`` when the kernel has
  /// no sets, ``RedirectionError/setOfOtherKind(name:)`` when one of this name is something else.
  mutating func create(_ set: AddressSet) throws(RedirectionError) -> Bool {
    if try members(set) != nil { return false }
    let (verdict, answers) = try ask(set.revisionQuery)
    try require(verdict, set, "type")
    guard let answer = answers.first else { throw .netlinkMalformed(reason: "no revision of a set") }
    let made = try ask(set.creation(revision: AddressSet.revision(answer))).verdict
    if made == EEXIST { throw .setOfOtherKind(name: set.name) }
    try require(made, set, "create")
    return true
  }

  /// Nil when there is no such set. Throws ``RedirectionError``.
  mutating func members(_ set: AddressSet) throws(RedirectionError) -> [AddressSet.Member]? {
    let messages: [NetlinkMessage]
    do throws(RedirectionError) {
      messages = try session.dump(set.listing.kind, set.listing.payload)
    } catch {
      guard case .netlinkFailed(let cause) = error else { throw error }
      if cause.number == ENOENT { return nil }
      try require(cause.number, set, "list")
      throw error
    }
    var members: [AddressSet.Member] = []
    for message in messages { members += try set.members(message) }
    return members
  }

  /// The number rules know it by. Throws ``RedirectionError``.
  mutating func index(_ set: AddressSet) throws(RedirectionError) -> UInt16 {
    let (verdict, answers) = try ask(set.indexQuery)
    try require(verdict, set, "index")
    guard let answer = answers.first else { throw .netlinkMalformed(reason: "no index of a set") }
    return try AddressSet.index(answer)
  }

  /// Adds an address, or gives one that is there to this owner. True when that changed anything.
  mutating func add(_ address: IPAddress, owner: String, to set: AddressSet) throws(RedirectionError) -> Bool {
    let member = AddressSet.Member(address: address, owner: String(owner.prefix(AddressSet.maximumOwner)))
    if try members(set)?.contains(member) == true { return false }
    try require(try ask(set.addition(address, owner: member.owner ?? owner)).verdict, set, "add")
    return true
  }

  /// Removes an address if it is this owner's: the next owner of an address may have come before the last one left.
  mutating func remove(_ address: IPAddress, owner: String, from set: AddressSet) throws(RedirectionError) -> Bool {
    guard try members(set)?.contains(.init(address: address, owner: owner)) == true else { return false }
    let verdict = try ask(set.removal(address)).verdict
    if verdict != Self.missingElement { try require(verdict, set, "remove") }
    return true
  }

  /// Destroys the set. Nothing may refer to it any more.
  mutating func destroy(_ set: AddressSet) throws(RedirectionError) -> Bool {
    let verdict = try ask(set.destruction).verdict
    if verdict == ENOENT { return false }
    try require(verdict, set, "destroy")
    return true
  }

  private mutating func ask(
    _ message: NetfilterMessage
  ) throws(RedirectionError) -> (verdict: CInt, answers: [NetlinkMessage]) {
    try session.ask(message.kind, flags: message.flags, message.payload)
  }

  private func require(_ number: CInt, _ set: AddressSet, _ step: String) throws(RedirectionError) {
    switch number {
    case 0: return
    case EPERM, EACCES: throw .notPermitted(subject: "set \(set.name)")
    // No such part of netfilter, or no such type of set.
    case EINVAL, EOPNOTSUPP, EPROTONOSUPPORT, 4098: throw .setsMissing
    default: throw .setFailed(name: set.name, step: step, number: number)
    }
  }
}
