import Glibc

// libFuzzer has the program's `main`; these are what it calls.

/// Called once: chooses the target that the environment names.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
  let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
  guard let target = Targets.named[name] else {
    print("set FUZZ_TARGET to one of \(Targets.named.keys.sorted().joined(separator: ", "))")
    exit(2)
  }
  Targets.chosen = target
  return 0
}

/// Called with each thing that libFuzzer thinks of.
@_cdecl("LLVMFuzzerTestOneInput")
public func run(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  Targets.chosen(Array(UnsafeBufferPointer(start: data, count: size)))
  return 0
}
