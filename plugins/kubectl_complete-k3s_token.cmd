@rem Completion of "kubectl k3s-token" (kubectl 1.26 or later).
@rem Put this file into a folder of your PATH under this name, in PowerShell:
@rem
@rem   kubectl k3s-token completion | Set-Content kubectl_complete-k3s_token.cmd
@set NoDefaultCurrentDirectoryInExePath=1
@kubectl-k3s_token.exe __complete %*
