import CLinux
import Glibc
import HTTPServer

/// What can be told of memory and processor without stopping anything (observability.md §5).
enum Profiling {
  /// The C library's own account of its heap (`malloc_info(3)`), on which Swift's objects lie too.
  static func heap() -> HTTPResponse {
    var text: UnsafeMutablePointer<CChar>?
    var length = 0
    guard let stream = open_memstream(&text, &length) else {
      return .text("the heap cannot be described: out of memory\n", status: 500)
    }
    let result = malloc_info(0, stream)
    fclose(stream)
    defer { free(text) }
    guard result == 0, let text else { return .text("the heap cannot be described\n", status: 500) }
    let bytes = UnsafeRawBufferPointer(start: text, count: length)
    return HTTPResponse(headers: ["content-type": "application/xml"], body: .bytes(Array(bytes)))
  }

  /// Whether the heap's account is on: always. What asks for less, or for nothing that makes sense, is told so.
  static func activation(_ request: HTTPRequest) -> HTTPResponse {
    switch request.query("activate") {
    case nil, "true": .text("active: /debug/pprof/heap is always available, and costs nothing until it is read\n")
    case "false": .text("active: there is no sampling that could be switched off\n")
    default: .text("activate is true or false\n", status: 400)
    }
  }

  /// There is no sampler inside: the kernel's sees more, and costs nothing while it is not used.
  static func processor() -> HTTPResponse {
    .text(
      """
      not available: this process has no sampler of its own
      use the kernel's:  perf record --call-graph=fp --pid \(getpid()) -- sleep 10
      threads and their processor time:  top -H -p \(getpid())

      """, status: 501)
  }
}
