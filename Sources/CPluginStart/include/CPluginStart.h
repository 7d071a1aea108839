// What the plugin's program needs before Swift runs. There is nothing to call.
