import ArgumentParser

ZtunnelCommand.main()
